#include "io/index_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"

void mb_ids_seen_fini(struct mb_ids_seen *s)
{
    mb_free(s->v);
    s->v = NULL;
}

enum mb_status mb_ids_seen_put(struct mb_ids_seen *s, const struct mb_text *id, uint64_t line)
{
    if (s->n == s->cap) {
        uint64_t cap = s->cap ? 2 * s->cap : 1024;
        struct mb_id_seen *v = mb_grow(s->mem, MB_MEM_INDEX, s->v, cap, sizeof *v);
        if (v == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the ids of %llu input lines", (unsigned long long)cap);
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (struct mb_id_seen){mb_hash64(id->data, id->len), line};
    return MB_OK;
}

enum mb_status mb_ids_seen_number(struct mb_ids_seen *s, uint64_t line)
{
    char num[24];
    int n = snprintf(num, sizeof num, "%llu", (unsigned long long)line + 1);
    return mb_ids_seen_put(s, &(struct mb_text){num, (size_t)n}, line);
}

static int by_hash(const void *a, const void *b)
{
    const struct mb_id_seen *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

struct walk {
    enum mb_status (*read_id)(void *arg, uint64_t line, struct mb_text *id);
    void (*repeated)(void *arg, uint64_t line);
    void *arg;
    struct mb_text *distinct; /* the different ids of one hash: one, but for a true collision */
    uint64_t n, cap;
};

static bool is_known(const struct walk *w, const struct mb_text *id)
{
    for (uint64_t i = 0; i < w->n; i++)
        if (w->distinct[i].len == id->len && memcmp(w->distinct[i].data, id->data, id->len) == 0)
            return true;
    return false;
}

static enum mb_status walk_line(struct walk *w, uint64_t line)
{
    struct mb_text id;

    MB_TRY(w->read_id(w->arg, line, &id));
    if (is_known(w, &id)) {
        free(id.data);
        w->repeated(w->arg, line);
        return MB_OK;
    }
    if (w->n == w->cap) {
        uint64_t cap = w->cap ? 2 * w->cap : 4;
        struct mb_text *p = realloc(w->distinct, cap * sizeof *p);
        if (p == NULL) {
            free(id.data);
            return mb_error(MB_NO_MEMORY, "no memory for repeated ids");
        }
        w->distinct = p;
        w->cap = cap;
    }
    w->distinct[w->n++] = id;
    return MB_OK;
}

enum mb_status mb_ids_seen_repeated(struct mb_ids_seen *s,
                                    enum mb_status (*read_id)(void *arg, uint64_t line, struct mb_text *id),
                                    void (*repeated)(void *arg, uint64_t line), void *arg)
{
    struct walk w = {.read_id = read_id, .repeated = repeated, .arg = arg};
    enum mb_status st = MB_OK;
    uint64_t end;

    if (s->n > 1)
        qsort(s->v, s->n, sizeof *s->v, by_hash);
    for (uint64_t i = 0; i < s->n && st == MB_OK; i = end) {
        for (end = i + 1; end < s->n && s->v[end].hash == s->v[i].hash;)
            end++;
        for (uint64_t j = i; end > i + 1 && j < end && st == MB_OK; j++)
            st = walk_line(&w, s->v[j].line);
        while (w.n > 0)
            free(w.distinct[--w.n].data);
    }
    free(w.distinct);
    return st;
}
