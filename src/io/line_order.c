/* The order of lines. */
#include "io/line_order.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/files.h"
#include "base/fs.h"
#include "base/log.h"

#define LOOKED_AT 8192 /* bytes of a line */

/* ---------------------------------------------------------------- where a prompt begins */

/* Behind `"name" :` at p; NULL: that is not there. */
static const char *value_of(const char *p, const char *end, const char *name)
{
    size_t n = strlen(name);

    if ((size_t)(end - p) < n + 3 || memcmp(p + 1, name, n) != 0 || p[n + 1] != '"')
        return NULL;
    for (p += n + 2; p < end && (*p == ' ' || *p == ':'); p++) {
        if (*p == ':')
            return p + 1;
    }
    return NULL;
}

/* Behind the value at p: a string, or an array with what is in it. */
static const char *value_end(const char *p, const char *end)
{
    int depth = 0;
    bool inside = false;

    for (; p < end; p++) {
        if (inside && *p == '\\')
            p++;
        else if (*p == '"')
            inside = !inside;
        else if (!inside)
            depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
        if (!inside && depth <= 0 && p < end && (*p == '"' || *p == ']' || *p == '}'))
            return p + 1;
    }
    return end;
}

static uint64_t hash_of(const char *p, size_t n, size_t most, int bits)
{
    return mb_hash64(p, n < most ? n : most) >> (64 - bits);
}

/* The value that stands for a line: *n bytes of it. */
static const char *value_in(const char *line, size_t *n)
{
    static const char *const names[] = {"prompt", "prompt_ids", "context", "context_ids", "messages", "text", "text_ids"};
    const char *end = line + *n, *value = NULL;

    for (const char *p = line; value == NULL && (p = memchr(p, '"', (size_t)(end - p))) != NULL; p++) {
        for (size_t i = 0; i < sizeof names / sizeof *names && value == NULL; i++)
            value = value_of(p, end, names[i]);
    }
    while (value != NULL && value < end && *value == ' ')
        value++;
    if (value == NULL)
        return line;
    *n = (size_t)(value_end(value, end) - value);
    return value;
}

uint64_t mb_line_order_key(const char *line, size_t n)
{
    const char *value = value_in(line, &n);

    return hash_of(value, n, 64, 21) << 43 | hash_of(value, n, 256, 21) << 22 | hash_of(value, n, 1024, 22);
}

/* The first bytes of a line of the input into text [LOOKED_AT]. */
static enum mb_status read_line(const struct mb_index *x, int fd, uint64_t at, char *text, size_t *n)
{
    struct mb_line line;

    mb_index_line(x, at, &line);
    *n = line.len < LOOKED_AT ? line.len : LOOKED_AT;
    return *n > 0 ? mb_pread_all(fd, text, *n, line.offset, mb_index_info(x)->path, MB_INPUT) : MB_OK;
}

bool mb_line_order_same(const struct mb_index *x, int fd, uint64_t a, uint64_t b)
{
    char text[2][LOOKED_AT];
    size_t n[2];

    if (fd < 0 || read_line(x, fd, a, text[0], &n[0]) != MB_OK || read_line(x, fd, b, text[1], &n[1]) != MB_OK)
        return false;
    const char *v = value_in(text[0], &n[0]), *w = value_in(text[1], &n[1]);
    return n[0] > 0 && n[0] == n[1] && memcmp(v, w, n[0]) == 0;
}

/* ---------------------------------------------------------------- lines in order */

struct keyed {
    uint64_t key, line;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* Longer ones have smaller keys. */
static void keys_by_length(const struct mb_index *x, struct keyed *k)
{
    const struct mb_input_info *info = mb_index_info(x);
    struct mb_line line;

    for (uint64_t i = 0; i < info->lines; i++) {
        mb_index_line(x, info->first + i, &line);
        k[i] = (struct keyed){UINT32_MAX - line.len, info->first + i};
    }
}

static enum mb_status keys_by_prefix(const struct mb_index *x, struct keyed *k)
{
    const struct mb_input_info *info = mb_index_info(x);
    int fd = open(info->path, O_RDONLY | O_CLOEXEC);
    enum mb_status st = fd < 0 ? mb_file_error(errno, info->path, "opening") : MB_OK;
    char text[LOOKED_AT];
    size_t n;

    for (uint64_t i = 0; i < info->lines && st == MB_OK; i++) {
        st = read_line(x, fd, info->first + i, text, &n);
        k[i] = (struct keyed){st == MB_OK ? mb_line_order_key(text, n) : 0, info->first + i};
    }
    if (fd >= 0)
        close(fd);
    return st;
}

enum mb_status mb_line_order_make(const struct mb_index *x, enum mb_line_order order, struct mb_mem *mem,
                             uint64_t **out)
{
    uint64_t n = mb_index_info(x)->lines, *lines = NULL;
    enum mb_status st = MB_OK;

    *out = NULL;
    if (order == MB_LINES_INPUT)
        return MB_OK;
    struct keyed *k = mb_alloc(mem, MB_MEM_INDEX, n + 1, sizeof *k);
    if (k == NULL || (lines = mb_alloc(mem, MB_MEM_INDEX, n + 1, sizeof *lines)) == NULL)
        st =
            mb_error(MB_NO_MEMORY, "no memory to order %llu lines; use --order input", (unsigned long long)n);
    if (st == MB_OK && order == MB_LINES_LENGTH)
        keys_by_length(x, k);
    else if (st == MB_OK)
        st = keys_by_prefix(x, k);
    if (st == MB_OK)
        qsort(k, n, sizeof *k, by_key);
    for (uint64_t i = 0; i < n && st == MB_OK; i++) {
        bool new = order == MB_LINES_LENGTH || i == 0 || !mb_line_order_alike(k[i].key, k[i - 1].key);
        lines[i] = k[i].line | (new ? MB_LINES_NEW : 0);
    }
    mb_free(k);
    if (st == MB_OK)
        *out = lines;
    else
        mb_free(lines);
    return st;
}
