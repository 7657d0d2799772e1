#include "io/column.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

#define WINDOW_BYTES ((uint64_t)4 << 20)
#define WINDOW_TEXTS ((uint64_t)4096) /* and no more than WINDOW_BYTES of them, but for one text that is longer */

enum mb_status mb_column_open(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, int axis, bool optional,
                              struct mb_column *out)
{
    *out = (struct mb_column){.axis = axis};
    if (optional && !mb_h5_has(h, path))
        return MB_OK;
    return mb_h5_find(h, path, type, rank, &out->set);
}

static void forget(struct mb_column *c)
{
    if (c->set != NULL && c->set->type == MB_H5_TEXT && c->buf != NULL)
        mb_h5_free_text((char **)(void *)c->buf, c->n);
    c->n = 0;
}

void mb_column_close(struct mb_column *c)
{
    forget(c);
    mb_h5_set_close(c->set);
    mb_free(c->buf);
    *c = (struct mb_column){0};
}

uint64_t mb_column_stride(const struct mb_column *c)
{
    uint64_t bytes = mb_h5_size(c->set->type);
    for (int i = c->axis + 1; i < c->set->rank; i++) {
        if (!mb_mul_ok(bytes, c->set->dims[i], &bytes))
            return 0;
    }
    return bytes;
}

/* A window of strings: as many as fit; the next one tries twice as many as this one had. */
static enum mb_status load_texts(struct mb_column *c, uint64_t from, uint64_t n)
{
    uint64_t most = c->n == 0 ? WINDOW_TEXTS : 2 * c->n;
    n = n > most ? most : n;
    n = n > WINDOW_TEXTS ? WINDOW_TEXTS : n;
    forget(c);
    if (c->buf == NULL)
        c->buf = mb_alloc(NULL, MB_MEM_STAGING, WINDOW_TEXTS, sizeof(char *));
    if (c->buf == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a window of strings", c->set->path);
    MB_TRY(mb_h5_read_texts(c->set, from, WINDOW_BYTES, &n, (char **)(void *)c->buf));
    c->from = from;
    c->n = n;
    return MB_OK;
}

/* Reads the window [from, from + n) with all that lies before the axis. */
static enum mb_status load(struct mb_column *c, uint64_t from, uint64_t n, uint64_t stride, uint64_t outers)
{
    uint64_t start[MB_H5_MAX_RANK] = {0}, count[MB_H5_MAX_RANK] = {0}, bytes;
    const struct mb_h5_set *s = c->set;
    forget(c);
    if (n > c->cap) {
        if (!mb_mul_ok(n, stride, &bytes) || !mb_mul_ok(bytes, outers, &bytes))
            return mb_error(MB_INPUT, "%s: its shape is beyond any memory", s->path);
        mb_free(c->buf);
        c->cap = 0;
        c->buf = mb_alloc(NULL, MB_MEM_STAGING, 1, (size_t)bytes);
        if (c->buf == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for %llu bytes of it", s->path, (unsigned long long)bytes);
        c->cap = n;
    }
    for (int i = 0; i < s->rank; i++)
        count[i] = s->dims[i];
    start[c->axis] = from;
    count[c->axis] = n;
    MB_TRY(mb_h5_read(c->set, start, count, c->buf));
    c->from = from;
    c->n = n;
    return MB_OK;
}

enum mb_status mb_column_get(struct mb_column *c, uint64_t outer, uint64_t from, uint64_t n, const void **out)
{
    const struct mb_h5_set *s = c->set;
    uint64_t outers = c->axis == 0 ? 1 : s->dims[0], total = s->dims[c->axis];
    uint64_t stride = mb_column_stride(c), row = 0;

    if (from > total || n > total - from || outer >= (outers ? outers : 1))
        return mb_error(MB_INPUT, "%s: %llu elements at %llu lie beyond its %llu", s->path, (unsigned long long)n,
                        (unsigned long long)from, (unsigned long long)total);
    if (n == 0) {
        *out = NULL;
        return MB_OK;
    }
    if (from < c->from || from + n > c->from + c->n) {
        if (stride == 0 || outers == 0 || !mb_mul_ok(stride, outers, &row))
            return mb_error(MB_INPUT, "%s: a shape without elements", s->path);
        uint64_t want = WINDOW_BYTES / (row ? row : 1);
        want = want < n ? n : want;
        want = want > total - from ? total - from : want;
        if (s->type == MB_H5_TEXT && n > 1)
            return mb_error(MB_BUG, "%s: strings are read one by one", s->path);
        MB_TRY(s->type == MB_H5_TEXT ? load_texts(c, from, want) : load(c, from, want, stride, outers));
    }
    *out = c->buf + (outer * c->n + (from - c->from)) * stride;
    return MB_OK;
}
