/* What a bad model directory must get: MB_MODEL, and a message that names the file and all the words. Of the
 * tests of hostile models; each counts its own. */
#ifndef MB_TESTS_REFUSE_H
#define MB_TESTS_REFUSE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "model/model.h"
#include "tests/model_dir.h"

static int failures, cases;

static inline const char *models_dir(void)
{
    static char path[512];
    const char *s = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/data/models", s != NULL ? s : ".");
    return path;
}

static void expect_text(const char *label, const char *text, const char *want)
{
    if (want == NULL || strstr(text, want) != NULL)
        return;
    print_error("%s: message lacks \"%s\":\n  %s\n", label, want, text);
    failures++;
}

/* Opens dir; the message must contain dir (so: a file of it) and all the words. */
static void refuse(const char *dir, const char *label, const char *const want[4])
{
    struct mb_model *m = NULL;

    catch_begin();
    enum mb_status st = mb_model_open(dir, 0, &m);
    char *text = catch_end();
    cases++;
    if (st != MB_MODEL) {
        print_error("%s: status %s\n", label, mb_status_name(st));
        failures++;
    }
    if (st == MB_OK)
        mb_model_destroy(m);
    else if (m != NULL)
        failures++;
    expect_text(label, text, dir);
    for (int i = 0; i < 4; i++)
        expect_text(label, text, want[i]);
    free(text);
}

static void edit(json_t *v, const char *key, const char *text)
{
    if (key != NULL)
        json_edit(v, key, strcmp(text, "-") == 0 ? NULL : text);
}

/* There are at least so many cases. */
static void expect_cases(int least)
{
    print_message("%d bad directories refused\n", cases);
    assert_true(cases >= least);
}
#endif
