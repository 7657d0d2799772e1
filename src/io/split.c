#include "io/split.h"

#include <string.h>
#include "base/log.h"

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

enum mb_input_format mb_format_of(const char *path, const uint8_t *head, size_t n, size_t *skip)
{
    size_t i = *skip = n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    if (ends_with(path, ".txt"))
        return MB_FORMAT_TXT;
    if (!ends_with(path, ".json"))
        return MB_FORMAT_JSONL;
    while (i < n && is_space(head[i]))
        i++;
    return i < n && head[i] == '[' ? MB_FORMAT_JSON : MB_FORMAT_JSONL;
}

void mb_splitter_init(struct mb_splitter *s, enum mb_input_format format, uint64_t base, struct mb_mem *mem)
{
    *s = (struct mb_splitter){.format = format, .base = base, .mem = mem};
}

void mb_splitter_fini(struct mb_splitter *s)
{
    mb_free(s->buf);
    s->buf = NULL;
}

/* Drops what is done with. A line that has grown too long is thrown away as it comes; only its length stays. */
static void compact(struct mb_splitter *s)
{
    if (s->start > 0)
        memmove(s->buf, s->buf + s->start, s->len - s->start);
    s->base += s->start;
    s->len -= s->start;
    s->scanned -= s->start;
    s->start = 0;
    if (s->scanned > MB_LINE_MAX || (s->skipped > 0 && s->scanned > 0)) {
        size_t drop = s->scanned;
        memmove(s->buf, s->buf + drop, s->len - drop);
        s->skipped += drop;
        s->base += drop;
        s->len -= drop;
        s->scanned = 0;
    }
}

enum mb_status mb_splitter_put(struct mb_splitter *s, const void *data, size_t n)
{
    if (n == 0) {
        s->eof = true;
        return MB_OK;
    }
    if (s->buf != NULL)
        compact(s);
    if (s->cap - s->len < n) {
        size_t cap = s->cap ? s->cap : 4096;
        while (cap - s->len < n)
            cap *= 2;
        uint8_t *p = mb_grow(s->mem, MB_MEM_INDEX, s->buf, cap, 1);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for an input line of %zu bytes", cap);
        s->buf = p;
        s->cap = cap;
    }
    memcpy(s->buf + s->len, data, n);
    s->len += n;
    return MB_OK;
}

/* The line buf[start, end); the next one begins at next. */
static void cut(struct mb_splitter *s, size_t end, size_t next, struct mb_cut *out)
{
    uint64_t len = end - s->start + s->skipped;

    out->offset = s->base + s->start - s->skipped;
    out->len = len;
    out->text = len > MB_LINE_MAX ? NULL : s->buf + s->start;
    s->skipped = 0;
    s->start = s->scanned = next;
}

static bool next_line(struct mb_splitter *s, struct mb_cut *out)
{
    const uint8_t *nl = s->len > s->scanned ? memchr(s->buf + s->scanned, '\n', s->len - s->scanned) : NULL;

    if (nl != NULL) {
        size_t at = (size_t)(nl - s->buf);
        cut(s, at, at + 1, out);
        return true;
    }
    s->scanned = s->len;
    if (!s->eof || (s->len == s->start && s->skipped == 0))
        return false;
    cut(s, s->len, s->len, out); /* the last line needs no newline */
    return true;
}

static bool all_space(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_space(p[i]))
            return false;
    return true;
}

/* One byte inside the array: true if it ends the element before it. */
static bool ends_element(struct mb_splitter *s, uint8_t c)
{
    if (s->string) {
        if (s->escape)
            s->escape = false;
        else if (c == '\\')
            s->escape = true;
        else if (c == '"')
            s->string = false;
        return false;
    }
    if (s->depth == 0 && (c == ',' || c == ']'))
        return true;
    if (c == '"')
        s->string = true;
    else if (c == '{' || c == '[')
        s->depth++;
    else if ((c == '}' || c == ']') && s->depth > 0)
        s->depth--;
    return false;
}

/* Outside the elements: before the '[' and after the ']'. */
static const char *between(struct mb_splitter *s)
{
    for (; s->scanned < s->len; s->scanned++) {
        uint8_t c = s->buf[s->scanned];
        if (is_space(c))
            continue;
        if (s->where == MB_SPLIT_AFTER)
            return "there is more text behind the array";
        s->scanned++; /* mb_format_of has seen that it is '[' */
        s->where = MB_SPLIT_FIRST;
        break;
    }
    s->start = s->scanned;
    return NULL;
}

static const char *next_element(struct mb_splitter *s, struct mb_cut *out, bool *got)
{
    const char *why = NULL;

    if (s->where == MB_SPLIT_BEFORE || s->where == MB_SPLIT_AFTER)
        why = between(s);
    if (why != NULL || s->where == MB_SPLIT_BEFORE || s->where == MB_SPLIT_AFTER)
        return why;
    for (; s->scanned < s->len; s->scanned++) {
        size_t at = s->scanned;
        if (!ends_element(s, s->buf[at]))
            continue;
        bool last = s->buf[at] == ']';
        bool empty = s->skipped == 0 && all_space(s->buf + s->start, at - s->start);
        if (empty && !(last && s->where == MB_SPLIT_FIRST))
            return "an element of the array is missing between two commas";
        s->where = last ? MB_SPLIT_AFTER : MB_SPLIT_NEXT;
        if (empty) {
            s->start = s->scanned = at + 1;
            return between(s);
        }
        cut(s, at, at + 1, out);
        *got = true;
        return NULL;
    }
    return s->eof ? "the array has no end" : NULL;
}

enum mb_status mb_splitter_next(struct mb_splitter *s, struct mb_cut *out, bool *got, const char **why)
{
    *got = false;
    if (s->format != MB_FORMAT_JSON) {
        *got = next_line(s, out);
        return MB_OK;
    }
    *why = next_element(s, out, got);
    return *why != NULL ? MB_INPUT : MB_OK;
}
