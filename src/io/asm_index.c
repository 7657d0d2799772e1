#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/wire.h"
#include "io/asm.h"

#define ROUND_ENTRIES 65536 /* all ranks together may send 16 times as many in a round, at least 64 each */

void mb_asm_fini(struct mb_asm *a)
{
    mb_free(a->e);
    mb_rows_destroy(a->rows);
    a->e = NULL;
    a->rows = NULL;
}

void mb_asm_forget(struct mb_asm *a)
{
    mb_free(a->e);
    a->e = NULL;
    a->n = a->cap = 0;
    a->top = a->prompt_top = a->packed = 0;
    a->totals = (struct mb_assembled){0};
    memset(&a->all, 0, sizeof a->all);
    a->base = a->all;
}

uint64_t mb_asm_bound(const struct mb_asm *a)
{
    /* records hold tokens and strings once; 200 bytes a row for what rows have in numbers; chunks that are not full */
    uint64_t bytes = a->packed + 200 * a->all.rows + 8 * a->top * a->all.output + 8 * a->prompt_top * a->all.prompt + ((uint64_t)32 << 20);
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        bool last = i == MB_BULK_LOGITS && a->shape->logits_last;
        bytes += mb_shape_row_bytes(a->shape, (enum mb_bulk_kind)i) * (last ? a->all.rows : a->all.bulk);
    }
    return bytes;
}

enum mb_status mb_asm_add(struct mb_asm *a, const struct mb_row_entry *e, int64_t n)
{
    if (n > a->cap - a->n) {
        int64_t cap = a->cap ? a->cap : 1024;
        while (cap - a->n < n)
            cap += cap / 2;
        struct mb_row_entry *p = a->e == NULL ? mb_alloc(a->mem, MB_MEM_INDEX, (size_t)cap, sizeof *p)
                                              : mb_grow(a->mem, MB_MEM_INDEX, a->e, (size_t)cap, sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the places of %lld rows; use more ranks or nodes",
                            (long long)(a->n + n));
        a->e = p;
        a->cap = cap;
    }
    if (n > 0)
        memcpy(a->e + a->n, e, (size_t)n * sizeof *e);
    a->n += n;
    return MB_OK;
}

enum mb_status mb_asm_round(struct mb_asm *a, enum mb_status st, int64_t *left, const char *what, int64_t done, int64_t total)
{
    int64_t v[2] = {*left, a->stop != NULL && *a->stop};
    if (a->show != NULL)
        a->show(a->show_arg, what, done < total ? (double)done / (double)total : 1);
    MB_TRY(mb_group_agree(&a->g, st, what));
    MB_TRY(mb_group_max(&a->g, v, 2, what));
    *left = v[0];
    if (v[1] == 0)
        return MB_OK;
    if (a->g.rank == 0)
        mb_info("%s: asked to stop; what is half written is removed, and can be made again", what);
    return MB_STOP;
}

/* ---------------------------------------------------------------- gathering */
static int owner_of(const struct mb_asm *a, uint64_t line)
{
    if (line < a->first_line || a->lines == 0)
        return 0;
    uint64_t at = line - a->first_line;
    at = at < a->lines ? at : a->lines - 1;
    return (int)((unsigned __int128)at * (unsigned)a->owners / a->lines);
}

/* Reads this rank's journals: every size-th of the list. */
struct feeder {
    const char *dir;
    const struct mb_identity *identity;
    struct mb_jscan_file *files;
    int32_t n_files, at;
    struct mb_jscan *scan;
    struct mb_row_entry *e; /* of this round */
    int64_t n, cap;
};

static enum mb_status feeder_next(struct mb_asm *a, struct feeder *f, bool *end)
{
    struct mb_jscan_item item = {.kind = MB_JSCAN_END};
    *end = false;
    if (f->scan == NULL) {
        if (f->at >= f->n_files) {
            *end = true;
            return MB_OK;
        }
        MB_TRY(mb_jscan_open(f->dir, f->files[f->at], f->identity, a->first_line + a->lines, MB_JSCAN_HASHED, &f->scan));
    }
    MB_TRY(mb_jscan_next(f->scan, &item));
    if (item.kind == MB_JSCAN_DONE && item.done.head.line >= a->first_line)
        mb_row_entry_of(&item.done, &f->e[f->n++]);
    if (item.kind == MB_JSCAN_END) {
        mb_jscan_close(f->scan);
        f->scan = NULL;
        f->at += a->g.size;
    }
    return MB_OK;
}

static enum mb_status feeder_fill(struct mb_asm *a, struct feeder *f)
{
    bool end = false;
    f->n = 0;
    while (f->n < f->cap && !end)
        MB_TRY(feeder_next(a, f, &end));
    return MB_OK;
}

/* Groups the round's entries by owner into send, with byte offsets. */
static void by_owner(const struct mb_asm *a, const struct feeder *f, struct mb_row_entry *send, uint64_t *off)
{
    memset(off, 0, (size_t)(a->g.size + 1) * sizeof *off);
    for (int64_t i = 0; i < f->n; i++)
        off[owner_of(a, f->e[i].line) + 1] += sizeof *send;
    for (int r = 0; r < a->g.size; r++)
        off[r + 1] += off[r];
    uint64_t *next = off; /* filled backwards: off[r] ends as the start of r */
    for (int64_t i = f->n - 1; i >= 0; i--) {
        int r = owner_of(a, f->e[i].line);
        next[r + 1] -= sizeof *send;
        send[next[r + 1] / sizeof *send] = f->e[i];
    }
    /* off[r + 1] is now the start of r; shift back */
    for (int r = 0; r < a->g.size; r++)
        off[r] = off[r + 1];
    off[a->g.size] = (uint64_t)f->n * sizeof *send;
}

static enum mb_status one_round(struct mb_asm *a, struct feeder *f, struct mb_row_entry *send, uint64_t *off, uint64_t *recv_off,
                                bool *more)
{
    uint8_t *recv = NULL;
    int64_t left;
    enum mb_status st = feeder_fill(a, f);
    left = f->n > 0;
    MB_TRY(mb_asm_round(a, st, &left, "reading journals", f->at, f->n_files));
    *more = left != 0;
    if (!*more)
        return MB_OK;
    by_owner(a, f, send, off);
    MB_TRY(mb_group_alltoallv(&a->g, (const uint8_t *)send, off, &recv, recv_off, "places of rows"));
    st = mb_asm_add(a, (const struct mb_row_entry *)(const void *)recv,
                                   (int64_t)(recv_off[a->g.size] / sizeof(struct mb_row_entry)));
    mb_free(recv);
    return mb_group_agree(&a->g, st, "places of rows");
}

/* All ranks must read the same list, whatever a network file system shows them: rank 0's. */
static enum mb_status list_journals(struct mb_asm *a, struct feeder *f)
{
    struct mb_bytes b = {0};
    enum mb_status st = MB_OK;
    if (a->g.rank == 0) {
        st = mb_jscan_list(f->dir, &f->files, &f->n_files);
        if (st == MB_OK)
            st = mb_bytes_put(&b, f->files, (size_t)f->n_files * sizeof *f->files);
    }
    st = mb_group_agree(&a->g, st, "list of journals");
    if (st == MB_OK)
        st = mb_group_bcast(&a->g, &b, "list of journals");
    if (st == MB_OK && a->g.rank != 0) {
        f->n_files = (int32_t)(b.len / sizeof *f->files);
        f->files = malloc(b.len + 1);
        if (f->files != NULL && b.len > 0)
            memcpy(f->files, b.data, b.len);
        st = f->files == NULL ? mb_error(MB_NO_MEMORY, "no memory for the list of journals") : MB_OK;
    }
    mb_bytes_fini(&b);
    return mb_group_agree(&a->g, st, "list of journals");
}

enum mb_status mb_asm_gather(struct mb_asm *a, const char *dir, const struct mb_identity *identity)
{
    struct feeder f = {.dir = dir, .identity = identity, .at = a->g.rank};
    size_t ranks = (size_t)a->g.size + 1;
    f.cap = ROUND_ENTRIES * 16 / a->g.size;
    f.cap = f.cap > ROUND_ENTRIES ? ROUND_ENTRIES : f.cap < 64 ? 64 : f.cap;
    f.e = mb_alloc(a->mem, MB_MEM_EXCHANGE, (size_t)f.cap, sizeof *f.e);
    struct mb_row_entry *send = mb_alloc(a->mem, MB_MEM_EXCHANGE, (size_t)f.cap, sizeof *send);
    uint64_t *off = mb_alloc(a->mem, MB_MEM_EXCHANGE, 2 * ranks, sizeof *off);
    enum mb_status st = f.e == NULL || send == NULL || off == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to exchange places of rows") : MB_OK;
    st = mb_group_agree(&a->g, st, "reading journals");
    if (st == MB_OK)
        st = list_journals(a, &f);
    for (bool more = true; st == MB_OK && more;)
        st = one_round(a, &f, send, off, off + ranks, &more);
    mb_jscan_close(f.scan);
    mb_free(f.e);
    mb_free(send);
    mb_free(off);
    free(f.files);
    return st;
}

/* ---------------------------------------------------------------- settling */
/* The first record of each row is kept; a second one must be the same. */
static enum mb_status drop_duplicates(struct mb_asm *a)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < a->n; i++) {
        struct mb_row_entry *last = kept > 0 ? &a->e[kept - 1] : NULL;
        const struct mb_row_entry *e = &a->e[i];
        if (last == NULL || last->line != e->line) {
            a->e[kept++] = *e;
            continue;
        }
        if (last->n != e->n)
            return mb_error(MB_CORRUPT, "line %llu has %d choices in one record and %d in another",
                            (unsigned long long)e->line + 1, last->n, e->n);
        if (last->choice != e->choice)
            a->e[kept++] = *e;
        else if (last->content != e->content)
            return mb_error(MB_CORRUPT, "line %llu, choice %d: run-%04d/journal-%06d and run-%04d/journal-%06d hold different "
                                        "results", (unsigned long long)e->line + 1, e->choice, last->file.run,
                            last->file.writer, e->file.run, e->file.writer);
    }
    a->n = kept;
    return MB_OK;
}

static enum mb_status add_pending(struct mb_asm *a, uint64_t line, int32_t choice, int32_t n)
{
    struct mb_row_entry e = {.line = line, .choice = (uint8_t)choice, .n = (uint8_t)n, .status = MB_ROW_PENDING,
                             .file = {0, MB_ROWS_PENDING}};
    if (n > MB_MAX_CHOICES)
        return mb_error(MB_BUG, "line %llu has %d choices", (unsigned long long)line + 1, n);
    a->totals.pending++;
    return mb_asm_add(a, &e, 1);
}

/* Own lines [lo, hi): rows without a record. Entries of done rows are the first `done` ones, sorted. */
static enum mb_status fill_pending(struct mb_asm *a, uint64_t lo, uint64_t hi)
{
    int64_t done = a->n, i = 0;
    for (uint64_t line = lo; line < hi; line++) {
        int32_t n = 1;
        if (i < done && a->e[i].line == line) {
            n = a->e[i].n;
            for (int32_t c = 0; c < n; c++) {
                if (i < done && a->e[i].line == line && a->e[i].choice == c)
                    i++;
                else
                    MB_TRY(add_pending(a, line, c, n));
            }
            continue;
        }
        if (a->pending != NULL && a->pending->rows != NULL)
            MB_TRY(a->pending->rows(a->pending->arg, line, &n));
        for (int32_t c = 0; c < n; c++)
            MB_TRY(add_pending(a, line, c, n));
    }
    return MB_OK;
}

static void own_lines(const struct mb_asm *a, uint64_t *lo, uint64_t *hi)
{
    unsigned __int128 lines = a->lines, owners = (unsigned)a->owners;
    *lo = *hi = a->first_line;
    if (a->g.rank >= a->owners)
        return;
    /* the first line whose owner_of is this rank, and the next rank's */
    *lo += (uint64_t)((lines * (unsigned)a->g.rank + owners - 1) / owners);
    *hi += (uint64_t)((lines * ((unsigned)a->g.rank + 1) + owners - 1) / owners);
}

static void count_own(struct mb_asm *a)
{
    struct mb_assembled *t = &a->totals;
    for (int64_t i = 0; i < a->n;) {
        int64_t j = i, done = 0;
        for (; j < a->n && a->e[j].line == a->e[i].line; j++) {
            const struct mb_row_entry *e = &a->e[j];
            done += e->status != MB_ROW_PENDING;
            t->errors += e->status == MB_ROW_ERROR;
            a->packed += e->len;
            t->prompt_tokens += e->n_prompt;
            t->output_tokens += e->n_output;
            a->base.bulk += (uint64_t)e->n_rows; /* this rank's sum for now */
            if ((uint64_t)e->top_n > a->top)
                a->top = (uint64_t)e->top_n;
            if (e->prompt_top > a->prompt_top)
                a->prompt_top = e->prompt_top;
        }
        t->requests += done == a->e[i].n;
        i = j;
    }
    t->rows = a->n;
}

struct sums {
    int64_t rows, errors, pending, prompt, output, bulk, requests, top, prompt_top, packed;
};

/* Every rank learns all ranks' sums, hence the totals and where its own part begins. */
static enum mb_status share_sums(struct mb_asm *a)
{
    struct mb_assembled *t = &a->totals;
    struct sums mine = {t->rows, t->errors, t->pending, t->prompt_tokens, t->output_tokens, (int64_t)a->base.bulk,
                        t->requests, (int64_t)a->top, (int64_t)a->prompt_top, (int64_t)a->packed};
    struct sums *all = mb_alloc(a->mem, MB_MEM_EXCHANGE, (size_t)a->g.size, sizeof *all);
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for sums") : MB_OK;
    st = mb_group_agree(&a->g, st, "sizes of the results");
    if (st == MB_OK)
        st = mb_group_allgather(&a->g, &mine, sizeof mine, all, "sizes of the results");
    *t = (struct mb_assembled){0};
    memset(&a->all, 0, sizeof a->all);
    a->packed = 0;
    for (int r = 0; r < a->g.size && st == MB_OK; r++) {
        if (r == a->g.rank)
            a->base = a->all;
        a->all.rows += (uint64_t)all[r].rows;
        a->all.prompt += (uint64_t)all[r].prompt;
        a->all.output += (uint64_t)all[r].output;
        a->all.bulk += (uint64_t)all[r].bulk;
        a->packed += (uint64_t)all[r].packed;
        t->rows += all[r].rows;
        t->errors += all[r].errors;
        t->pending += all[r].pending;
        t->prompt_tokens += all[r].prompt;
        t->output_tokens += all[r].output;
        t->requests += all[r].requests;
        if ((uint64_t)all[r].top > a->top)
            a->top = (uint64_t)all[r].top;
        if ((uint64_t)all[r].prompt_top > a->prompt_top)
            a->prompt_top = (uint64_t)all[r].prompt_top;
    }
    mb_free(all);
    return st;
}

enum mb_status mb_asm_settle(struct mb_asm *a)
{
    uint64_t lo, hi;
    mb_asm_sort(a->e, a->n);
    enum mb_status st = drop_duplicates(a);
    own_lines(a, &lo, &hi);
    if (st == MB_OK && a->partial) {
        st = fill_pending(a, lo, hi);
        if (st == MB_OK)
            mb_asm_sort(a->e, a->n);
    }
    MB_TRY(mb_group_agree(&a->g, st, "order of the rows"));
    count_own(a);
    MB_TRY(share_sums(a));
    if (a->partial || (uint64_t)a->totals.requests >= a->requests)
        return MB_OK;
    return a->g.rank != 0 ? MB_STOP
                          : mb_error(MB_STOP, "%lld of %llu requests are done: moebatch run --resume goes on, moebatch assemble "
                                              "--partial writes what there is", (long long)a->totals.requests,
                                     (unsigned long long)a->requests);
}
