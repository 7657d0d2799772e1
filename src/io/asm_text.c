#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "base/wire.h"
#include "io/asm_batch.h"
#include "io/results.h"
#include "io/schema.h"
#include "text/tokenizer.h"

enum { TEXT_ID, TEXT_ERROR, TEXT_TEXT, TEXTS };
static const enum mb_set text_sets[TEXTS] = {MB_SET_ID, MB_SET_ERROR, MB_SET_TEXT};

/* ---------------------------------------------------------------- the owner's side */
/* A string as HDF5 takes it: valid UTF-8 without U+0000, and a NUL. */
static enum mb_status put_string(struct mb_bytes *out, const struct mb_text *t)
{
    struct mb_bytes clean = {0};
    enum mb_status st = mb_utf8_repair(t->data == NULL ? "" : t->data, t->len, true, &clean);
    if (st == MB_OK)
        st = mb_bytes_put(out, clean.data, clean.len);
    if (st == MB_OK)
        st = mb_bytes_put(out, "", 1);
    mb_bytes_fini(&clean);
    return st;
}

/* u64 first row, u64 rows, then for each of the three datasets its strings. */
static enum mb_status pack(struct mb_asm *a, struct mb_batch *b, struct mb_bytes *out)
{
    out->len = 0;
    MB_TRY(mb_batch_next(a, b));
    if (b->n == 0)
        return MB_OK;
    struct mb_wire_out o = {out, MB_OK};
    mb_wire_put_u64(&o, a->base.rows + (uint64_t)b->first);
    mb_wire_put_u64(&o, (uint64_t)b->n);
    for (int t = 0; t < TEXTS; t++) {
        for (int64_t i = 0; i < b->n && o.st == MB_OK; i++) {
            const struct mb_record *r = &b->r[i];
            o.st = put_string(out, t == TEXT_ID ? &r->id : t == TEXT_ERROR ? &r->error : &r->text);
        }
    }
    return o.st;
}

/* ---------------------------------------------------------------- rank 0's side */
/* One owner's rows of this round. */
static enum mb_status unpack(struct mb_h5_set **sets, const uint8_t *data, uint64_t n)
{
    struct mb_wire w = mb_wire_of(data, (size_t)n);
    if (n == 0)
        return MB_OK;
    uint64_t first = mb_wire_u64(&w), rows = mb_wire_u64(&w);
    const char **v = rows > n ? NULL : calloc((size_t)rows + 1, sizeof *v);
    enum mb_status st = v == NULL ? mb_error(MB_NO_MEMORY, "no memory for %llu strings", (unsigned long long)rows) : MB_OK;
    for (int t = 0; t < TEXTS && st == MB_OK; t++) {
        for (uint64_t i = 0; i < rows; i++) {
            size_t len = strnlen((const char *)w.p, w.n);
            v[i] = (const char *)mb_wire_skip(&w, len + 1);
        }
        st = w.bad ? mb_error(MB_BUG, "strings that do not end") : mb_h5_write(sets[t], &first, &rows, v);
    }
    free(v);
    return st;
}

static enum mb_status one_round(struct mb_asm *a, struct mb_batch *b, struct mb_bytes *mine, struct mb_h5_set **sets,
                                uint64_t *off, uint64_t *recv_off, bool *more)
{
    uint8_t *recv = NULL;
    enum mb_status st = pack(a, b, mine);
    int64_t left = b->n;
    MB_TRY(mb_asm_round(a, st, &left, "strings of the results", b->first, a->n));
    *more = left > 0;
    if (!*more)
        return MB_OK;
    for (int r = 0; r <= a->g.size; r++) /* all goes to rank 0 */
        off[r] = r == 0 ? 0 : mine->len;
    MB_TRY(mb_group_alltoallv(&a->g, mine->data, off, &recv, recv_off, "strings of the results"));
    for (int r = 0; r < a->g.size && st == MB_OK && a->g.rank == 0; r++)
        st = unpack(sets, recv + recv_off[r], recv_off[r + 1] - recv_off[r]);
    mb_free(recv);
    return mb_group_agree(&a->g, st, "strings of the results");
}

enum mb_status mb_asm_text(struct mb_asm *a, struct mb_h5 *h)
{
    struct mb_h5_set *sets[TEXTS] = {NULL};
    struct mb_batch b = {0};
    struct mb_bytes mine = {0};
    size_t ranks = (size_t)a->g.size + 1;
    uint64_t keep = a->round_bytes, *off = mb_alloc(a->mem, MB_MEM_EXCHANGE, 2 * ranks, sizeof *off);
    enum mb_status st = off == NULL ? mb_error(MB_NO_MEMORY, "no memory to exchange strings") : MB_OK;
    for (int t = 0; t < TEXTS && st == MB_OK && h != NULL; t++)
        st = mb_h5_make(h, mb_dataset(text_sets[t])->path, MB_H5_TEXT, 1, &a->all.rows, NULL, &sets[t]);
    st = mb_group_agree(&a->g, st, "strings of the results");
    /* rank 0 gets the rounds of all owners at once */
    a->round_bytes = 4 * keep / (uint64_t)a->owners;
    a->round_bytes = a->round_bytes > keep ? keep : a->round_bytes < 65536 ? 65536 : a->round_bytes;
    for (bool more = true; st == MB_OK && more;)
        st = one_round(a, &b, &mine, sets, off, off + ranks, &more);
    a->round_bytes = keep;
    for (int t = 0; t < TEXTS; t++)
        mb_h5_set_close(sets[t]);
    mb_batch_fini(&b);
    mb_bytes_fini(&mine);
    mb_free(off);
    return st;
}

/* ---------------------------------------------------------------- what belongs to the file */
static enum mb_status write_identity(struct mb_h5 *h, const struct mb_identity *identity)
{
    json_t *v = identity == NULL ? NULL : mb_identity_json(identity);
    char *text = v == NULL ? NULL : json_dumps(v, JSON_COMPACT);
    enum mb_status st = MB_OK;
    if (text != NULL)
        st = mb_h5_put(h, "/provenance/identity", MB_H5_TEXT, 0, NULL, &text);
    free(text);
    json_decref(v);
    return st;
}

static enum mb_status root_attributes(struct mb_asm *a, struct mb_h5 *h, uint64_t input_lines)
{
    bool complete = a->totals.pending == 0 && (uint64_t)a->totals.requests >= a->requests;
    MB_TRY(mb_h5_attr_text(h, "/", "schema", MB_RESULTS_SCHEMA));
    MB_TRY(mb_h5_attr_i64(h, "/", "complete", complete));
    MB_TRY(mb_h5_attr_i64(h, "/", "input_lines", (int64_t)input_lines));
    MB_TRY(mb_h5_attr_i64(h, "/", "first_line", (int64_t)a->first_line));
    MB_TRY(mb_h5_attr_i64(h, "/", "lines", (int64_t)a->lines));
    MB_TRY(mb_h5_attr_i64(h, "/", "created", a->openai != NULL ? a->openai->created : (int64_t)mb_utc()));
    return mb_h5_attr_i64(h, "/", "requests", (int64_t)a->requests);
}

enum mb_status mb_asm_finish(struct mb_asm *a, struct mb_h5 *h, uint64_t input_lines, const struct mb_identity *identity,
                             const struct mb_extras *extras)
{
    MB_TRY(root_attributes(a, h, input_lines));
    MB_TRY(mb_h5_scale(h, "/requests/id", "request"));
    if (a->shape->routing) {
        uint64_t n = (uint64_t)a->shape->n_layers;
        MB_TRY(mb_h5_put(h, "/routing/layers", MB_H5_I32, 1, &n, a->shape->layers));
        MB_TRY(mb_h5_scale(h, "/routing/layers", "MoE layer"));
    }
    if (a->shape->logits)
        MB_TRY(mb_h5_attr_i64(h, "/logits", "last", a->shape->logits_last));
    MB_TRY(write_identity(h, identity));
    return extras == NULL ? MB_OK : mb_extras_write(extras, h);
}
