/* A directory of a test's own, removed at the end. */
#ifndef TESTS_TMPDIR_H
#define TESTS_TMPDIR_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"

/* malloc'd path of a new directory. */
static inline char *tmpdir_make(void)
{
    const char *base = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/mb-test-XXXXXX", base == NULL ? "/tmp" : base) < 0 || mkdtemp(path) == NULL)
        abort();
    return path;
}
static inline void tmpdir_remove(char *path)
{
    (void)mb_remove_tree(path);
    free(path);
}
#endif
