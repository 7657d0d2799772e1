/* OpenAI's lines of results that are complete already, from their rows. */
#include "base/log.h"
#include "base/publish.h"
#include "io/openai.h"

#define PIECE (1u << 20)

struct group { /* the choices of one line of the input */
    struct mb_record *r;
    int32_t n, cap;
};

static void forget(struct group *g)
{
    for (int32_t i = 0; i < g->n; i++)
        mb_record_fini(&g->r[i]);
    g->n = 0;
}

static enum mb_status put_line(struct group *g, const struct mb_openai_options *o, const struct mb_lines *to, struct mb_bytes *text,
                               size_t least)
{
    enum mb_status st = g->n > 0 ? mb_openai_line(o, g->r, g->n, text) : MB_OK;
    forget(g);
    if (st == MB_OK && text->len >= least) {
        st = to->put(to->arg, text->data, text->len);
        text->len = 0;
    }
    return st;
}

/* Takes the record. */
static enum mb_status add(struct group *g, struct mb_record *rec)
{
    if (g->n == g->cap) {
        int32_t cap = g->cap == 0 ? 8 : 2 * g->cap;
        struct mb_record *r = mb_grow(NULL, MB_MEM_EXCHANGE, g->r, (size_t)cap, sizeof *r);
        if (r == NULL) {
            mb_record_fini(rec);
            return mb_error(MB_NO_MEMORY, "no memory for the choices of a request");
        }
        g->r = r;
        g->cap = cap;
    }
    g->r[g->n++] = *rec;
    return MB_OK;
}

static enum mb_status put_lines(struct mb_results *r, const struct mb_openai_options *o, const struct mb_lines *to)
{
    struct group g = {0};
    struct mb_bytes text = {0};
    enum mb_status st = MB_OK;
    uint64_t rows = mb_results_info(r)->rows;
    for (uint64_t i = 0; i < rows && st == MB_OK; i++) {
        struct mb_record rec;
        st = mb_results_row(r, i, &rec);
        if (st == MB_OK && g.n > 0 && g.r[0].line != rec.line)
            st = put_line(&g, o, to, &text, PIECE);
        else if (st != MB_OK)
            break;
        if (st == MB_OK)
            st = add(&g, &rec);
        else
            mb_record_fini(&rec);
    }
    if (st == MB_OK)
        st = put_line(&g, o, to, &text, 0);
    forget(&g);
    mb_free(g.r);
    mb_bytes_fini(&text);
    return st;
}

enum mb_status mb_openai_rows(struct mb_results *r, const char *path, const struct mb_openai_options *o, const struct mb_lines *to)
{
    struct mb_openai_options mine = *o;
    if (!mb_results_info(r)->replies)
        return mb_error(MB_INPUT, "%s does not say in which form its requests came (/requests/reply), so that OpenAI's lines can't be "
                                  "made of it: an older version wrote it", path);
    MB_TRY(mb_results_created(r, &mine.created));
    return put_lines(r, &mine, to);
}

static enum mb_status put_file(void *arg, const void *data, size_t n)
{
    return mb_publish_write(arg, data, n);
}

enum mb_status mb_openai_late(const char *results, const char *path, const struct mb_openai_options *o)
{
    struct mb_results *r = NULL;
    struct mb_publish *p = NULL;
    MB_TRY(mb_results_open(results, &r));
    enum mb_status st = mb_publish_open(path, NULL, MB_PUBLISH_NEW, &p);
    if (st == MB_OK) {
        struct mb_lines to = {put_file, p};
        st = mb_openai_rows(r, results, o, &to);
        if (st == MB_OK)
            st = mb_publish_commit(p, NULL, NULL);
        else
            mb_publish_drop(p);
    }
    mb_results_close(r);
    return st;
}
