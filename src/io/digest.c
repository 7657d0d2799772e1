#include "io/digest.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "io/digest_sort.h"
#include "io/journal.h"
#include "io/safe.h"

/* Hashes of a row in the two digests: the whole row, and its tokens. */
enum { WHOLE, TOKENS, DIGESTS };

/* ---------------------------------------------------------------- fields of bulk data */
static enum mb_status hash_routing(struct mb_results *r, uint64_t first, uint64_t n, struct mb_hasher *h)
{
    const struct mb_results_info *f = mb_results_info(r);
    const void *p = NULL;
    for (uint64_t l = 0; l < f->layers; l++) {
        MB_TRY(mb_results_layer(r, MB_BULK_EXPERTS, l, first, n, &p));
        mb_hasher_field(h, p, (size_t)(n * f->k * sizeof(uint16_t)));
        MB_TRY(mb_results_layer(r, MB_BULK_WEIGHTS, l, first, n, &p));
        mb_record_hash_f32(h, p, n * f->k);
    }
    return MB_OK;
}

/* n rows of `width` floats from row `first` on, as one field. */
static enum mb_status hash_floats(struct mb_results *r, enum mb_bulk_kind kind, uint64_t width, uint64_t first, uint64_t n,
                                  struct mb_hasher *h)
{
    uint64_t bytes = n * width * sizeof(float);
    float *row = mb_alloc(NULL, MB_MEM_STAGING, (size_t)width, sizeof *row);
    enum mb_status st = row == NULL ? mb_error(MB_NO_MEMORY, "no memory for a row of %s", mb_bulk_name(kind)) : MB_OK;
    mb_hasher_put(h, &bytes, sizeof bytes);
    for (uint64_t i = 0; i < n && st == MB_OK; i++) {
        st = mb_results_bulk(r, kind, first + i, 1, row);
        if (st == MB_OK)
            mb_record_put_f32(h, row, width);
    }
    mb_free(row);
    return st;
}

/* What was saved of a row, in this order: routing, logits, hidden states, logits of the MTP module. */
static enum mb_status hash_bulk(struct mb_results *r, uint64_t i, uint64_t first, uint64_t n, bool full, struct mb_hasher *h)
{
    const struct mb_results_info *f = mb_results_info(r);
    n = full ? n : 0;
    if (f->layers > 0)
        MB_TRY(hash_routing(r, first, n, h));
    if (f->vocab > 0 && f->logits_last)
        MB_TRY(hash_floats(r, MB_BULK_LOGITS, f->vocab, i, full, h));
    else if (f->vocab > 0)
        MB_TRY(hash_floats(r, MB_BULK_LOGITS, f->vocab, first, n, h));
    if (f->hidden > 0)
        MB_TRY(hash_floats(r, MB_BULK_HIDDEN, f->hidden_layers * f->hidden, first, n, h));
    if (f->mtp_vocab > 0)
        MB_TRY(hash_floats(r, MB_BULK_MTP, f->mtp_vocab, first, n, h));
    return MB_OK;
}

static enum mb_status hash_row(struct mb_results *r, uint64_t i, const struct mb_record *rec, struct mb_hasher *h,
                               struct mb_hash128 *out)
{
    uint64_t first = 0;
    mb_hasher_reset(h);
    mb_record_hash(rec, h);
    out[TOKENS] = mb_hasher_128(h);
    MB_TRY(mb_results_first(r, i, &first));
    MB_TRY(hash_bulk(r, i, first, (uint64_t)rec->n_rows, rec->status != MB_ROW_ERROR && rec->status != MB_ROW_PENDING, h));
    out[WHOLE] = mb_hasher_128(h);
    return MB_OK;
}

/* ---------------------------------------------------------------- the file */
/* What the rows go into, one after the other in the order of the digest. */
struct fold {
    struct mb_hasher *all;
    struct mb_digest_sort *sort; /* NULL: as they stand in the file */
    FILE *requests;              /* NULL: nobody wants them row by row */
};

/* An id may hold anything: newlines and escapes of terminals are written as inspect shows them. */
static void fold_row(struct fold *f, const struct mb_digest_row *row)
{
    /* the canonical form of XXH3: big-endian, high half first */
    uint64_t bytes[2] = {__builtin_bswap64(row->hash.hi), __builtin_bswap64(row->hash.lo)};
    char hex[33];
    mb_hasher_put(f->all, bytes, sizeof bytes);
    if (f->requests == NULL)
        return;
    mb_hash128_hex(row->hash, hex);
    fprintf(f->requests, "%s ", hex);
    mb_put_safe(f->requests, row->id, row->id_len, false);
    fprintf(f->requests, " %u\n", row->choice);
}

static enum mb_status one_row(struct mb_results *r, uint64_t i, struct mb_hasher *h, struct fold f[DIGESTS], struct mb_digest *d)
{
    struct mb_record rec;
    struct mb_hash128 hash[DIGESTS];
    MB_TRY(mb_results_row(r, i, &rec));
    enum mb_status st = hash_row(r, i, &rec, h, hash);
    bool degraded = rec.status == MB_ROW_DEGRADED;
    d->degraded += st == MB_OK && degraded;
    d->rows += st == MB_OK && !degraded;
    for (int k = 0; k < DIGESTS && st == MB_OK && !degraded; k++) {
        struct mb_digest_row row = {hash[k], rec.id.data, (uint32_t)rec.id.len, (uint32_t)rec.choice};
        if (f[k].sort != NULL)
            st = mb_digest_sort_put(f[k].sort, &row);
        else
            fold_row(&f[k], &row);
    }
    mb_record_fini(&rec);
    return st;
}

static enum mb_status fold_end(struct fold *f, struct mb_hash128 *out)
{
    for (bool end = f->sort == NULL; !end;) {
        struct mb_digest_row row;
        MB_TRY(mb_digest_sort_next(f->sort, &row, &end));
        if (!end)
            fold_row(f, &row);
    }
    *out = mb_hasher_128(f->all);
    return MB_OK;
}

static enum mb_status fold_begin(struct fold *f, bool in_order)
{
    f->all = mb_hasher_create();
    if (f->all == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to hash rows");
    return in_order ? MB_OK : mb_digest_sort_create(0, &f->sort);
}

enum mb_status mb_digest_file(struct mb_results *r, bool in_order, FILE *requests, struct mb_digest *out)
{
    struct mb_digest d = {.rows = 0};
    struct fold f[DIGESTS] = {{.requests = requests}, {.requests = NULL}};
    struct mb_hasher *h = mb_hasher_create();
    enum mb_status st = h == NULL ? mb_error(MB_NO_MEMORY, "no memory to hash rows") : MB_OK;
    for (int k = 0; k < DIGESTS && st == MB_OK; k++)
        st = fold_begin(&f[k], in_order);
    for (uint64_t i = 0; i < mb_results_info(r)->rows && st == MB_OK; i++)
        st = one_row(r, i, h, f, &d);
    if (st == MB_OK)
        st = fold_end(&f[WHOLE], &d.file);
    if (st == MB_OK)
        st = fold_end(&f[TOKENS], &d.tokens);
    if (st == MB_OK)
        *out = d;
    for (int k = 0; k < DIGESTS; k++) {
        mb_digest_sort_destroy(f[k].sort);
        mb_hasher_destroy(f[k].all);
    }
    mb_hasher_destroy(h);
    return st;
}
