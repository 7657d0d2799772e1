/* KV pages: free lists and who holds what. */
#include "engine/pages.h"

#include "base/log.h"

enum mb_status mb_pages_create(struct mb_mem *mem, int32_t parts, int64_t n, bool ids, struct mb_pages *p)
{
    size_t all = (size_t)parts * (size_t)n;

    *p = (struct mb_pages){.parts = parts, .n = n};
    p->page = mb_zalloc(mem, MB_MEM_REQUESTS, all, sizeof *p->page);
    p->stack = mb_zalloc(mem, MB_MEM_REQUESTS, all, sizeof *p->stack);
    p->n_free = mb_zalloc(mem, MB_MEM_REQUESTS, (size_t)parts, sizeof *p->n_free);
    p->n_held = mb_zalloc(mem, MB_MEM_REQUESTS, (size_t)parts, sizeof *p->n_held);
    if (ids)
        p->ids = mb_zalloc(mem, MB_MEM_REQUESTS, all, MB_KV_BLOCK * sizeof *p->ids);
    if (p->page == NULL || p->stack == NULL || p->n_free == NULL || p->n_held == NULL ||
        (ids && p->ids == NULL))
        return mb_error(MB_NO_MEMORY, "no memory for a list of %lld KV pages; use a smaller --kv-pages",
                        (long long)n);
    for (int32_t part = 0; part < parts; part++) {
        p->n_free[part] = (int32_t)n;
        for (int64_t i = 0; i < n; i++)
            p->stack[part * n + i] = (int32_t)(n - 1 - i);
    }
    return MB_OK;
}

void mb_pages_destroy(struct mb_pages *p)
{
    mb_free(p->page);
    mb_free(p->ids);
    mb_free(p->stack);
    mb_free(p->n_free);
    mb_free(p->n_held);
    *p = (struct mb_pages){0};
}

int32_t mb_pages_take(struct mb_pages *p, int32_t part, uint64_t writer)
{
    if (p->n_free[part] == 0)
        return -1;
    int32_t page = p->stack[part * p->n + --p->n_free[part]];
    *mb_page_at(p, part, page) = (struct mb_page){.seqs = 1, .writer = writer};
    p->n_held[part]++;
    return page;
}

static void free_if_alone(struct mb_pages *p, int32_t part, int32_t page)
{
    const struct mb_page *m = mb_page_at(p, part, page);

    if (m->seqs == 0 && m->nodes == 0)
        p->stack[part * p->n + p->n_free[part]++] = page;
}

void mb_pages_hold(struct mb_pages *p, int32_t part, int32_t page)
{
    p->n_held[part] += mb_page_at(p, part, page)->seqs++ == 0;
}

void mb_pages_drop(struct mb_pages *p, int32_t part, int32_t page, uint64_t writer)
{
    struct mb_page *m = mb_page_at(p, part, page);

    if (m->writer == writer)
        m->writer = 0;
    p->n_held[part] -= --m->seqs == 0;
    free_if_alone(p, part, page);
}

void mb_pages_join(struct mb_pages *p, int32_t part, int32_t page)
{
    mb_page_at(p, part, page)->nodes++;
}

void mb_pages_leave(struct mb_pages *p, int32_t part, int32_t page)
{
    mb_page_at(p, part, page)->nodes--;
    free_if_alone(p, part, page);
}

int64_t mb_pages_held(const struct mb_pages *p)
{
    int64_t n = 0;

    for (int32_t part = 0; p->n_held != NULL && part < p->parts; part++)
        n += p->n_held[part];
    return n;
}
