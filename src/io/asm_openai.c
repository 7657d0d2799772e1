#include "base/log.h"
#include "io/asm_batch.h"

/* The lines of the next rows; a batch holds whole lines of the input. */
static enum mb_status make_lines(struct mb_asm *a, struct mb_batch *b, struct mb_bytes *out)
{
    out->len = 0;
    MB_TRY(mb_batch_next(a, b));
    for (int64_t i = 0, j; i < b->n; i = j) {
        for (j = i + 1; j < b->n && b->r[j].line == b->r[i].line; j++)
            ;
        MB_TRY(mb_openai_line(a->openai, &b->r[i], (int32_t)(j - i), out));
    }
    return MB_OK;
}

/* One round of owner r's lines to rank 0, which appends them. */
static enum mb_status one_round(struct mb_asm *a, int r, struct mb_batch *b, struct mb_bytes *mine, uint64_t *off,
                                uint64_t *recv_off, bool *more)
{
    uint8_t *recv = NULL;
    enum mb_status st = MB_OK;
    int64_t left = 0;
    mine->len = 0;
    if (a->g.rank == r) {
        st = make_lines(a, b, mine);
        left = b->n;
    }
    MB_TRY(mb_asm_round(a, st, &left, "OpenAI lines", a->g.rank == r ? b->first : 0, a->n));
    *more = left > 0;
    if (!*more)
        return MB_OK;
    for (int i = 0; i <= a->g.size; i++)
        off[i] = i == 0 ? 0 : mine->len;
    MB_TRY(mb_group_alltoallv(&a->g, mine->data, off, &recv, recv_off, "OpenAI lines"));
    if (a->g.rank == 0)
        st = mb_publish_write(a->openai_file, recv, (size_t)recv_off[a->g.size]);
    mb_free(recv);
    return mb_group_agree(&a->g, st, "OpenAI lines");
}

enum mb_status mb_asm_openai(struct mb_asm *a)
{
    struct mb_bytes mine = {0};
    struct mb_batch b = {0};
    size_t ranks = (size_t)a->g.size + 1;
    uint64_t *off = mb_alloc(a->mem, MB_MEM_EXCHANGE, 2 * ranks, sizeof *off);
    enum mb_status st = off == NULL ? mb_error(MB_NO_MEMORY, "no memory to exchange lines") : MB_OK;
    if (st == MB_OK && a->g.rank == 0)
        st = mb_publish_open(a->openai_path, NULL, a->openai_replace ? 0 : MB_PUBLISH_NEW, &a->openai_file);
    st = mb_group_agree(&a->g, st, "OpenAI lines");
    for (int r = 0; r < a->owners && st == MB_OK; r++) {
        for (bool more = true; st == MB_OK && more;)
            st = one_round(a, r, &b, &mine, off, off + ranks, &more);
    }
    if (st == MB_OK && a->g.rank == 0)
        st = mb_publish_sync(a->openai_file);
    mb_batch_fini(&b);
    mb_bytes_fini(&mine);
    mb_free(off);
    return mb_group_agree(&a->g, st, "OpenAI lines");
}
