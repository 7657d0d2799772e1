#include "io/table.h"

#include <libsmartcols.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

struct mb_table {
    struct libscols_table *t;
    size_t columns;
};

enum mb_status mb_table_create(const char *const *columns, int headings, struct mb_table **out)
{
    struct mb_table *t = calloc(1, sizeof *t);
    if (t != NULL)
        t->t = scols_new_table();
    if (t == NULL || t->t == NULL) {
        free(t);
        return mb_error(MB_NO_MEMORY, "no memory for a table");
    }
    scols_table_enable_noheadings(t->t, !headings);
    for (; columns[t->columns] != NULL; t->columns++) {
        char name[64];
        size_t n = strnlen(columns[t->columns], sizeof name - 1);
        memcpy(name, columns[t->columns], n);
        int right = n > 0 && name[n - 1] == '>';
        name[n - (size_t)right] = 0;
        scols_table_new_column(t->t, name, 0, right ? SCOLS_FL_RIGHT : 0);
    }
    *out = t;
    return MB_OK;
}

void mb_table_row(struct mb_table *t, const char *fmt, ...)
{
    struct libscols_line *line = scols_table_new_line(t->t, NULL);
    char *text = NULL, *next;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    next = text;
    for (size_t i = 0; i < t->columns && next != NULL && line != NULL; i++)
        scols_line_set_data(line, i, strsep(&next, "\t"));
    free(text);
}

void mb_table_print(struct mb_table *t, FILE *out)
{
    if (t == NULL)
        return;
    scols_table_set_stream(t->t, out);
    scols_print_table(t->t);
    scols_unref_table(t->t);
    free(t);
}
