#include "io/digest.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "io/journal.h"

struct row {
    struct mb_hash128 hash, tokens;
    const char *id;  /* in the arena */
    uint32_t id_len;
    uint32_t choice;
};

/* Ids of all rows, in blocks that never move. */
struct arena {
    char **blocks;
    size_t n, cap, left;
    char *at;
};
#define BLOCK ((size_t)1 << 20)

static const char *arena_put(struct arena *a, const char *s, size_t n)
{
    if (a->n == 0 || n > a->left) {
        size_t size = n > BLOCK ? n : BLOCK;
        if (a->n == a->cap) {
            size_t cap = a->cap ? 2 * a->cap : 16;
            char **p = realloc(a->blocks, cap * sizeof *p);
            if (p == NULL)
                return NULL;
            a->blocks = p;
            a->cap = cap;
        }
        char *block = malloc(size);
        if (block == NULL)
            return NULL;
        a->blocks[a->n++] = block;
        a->at = block;
        a->left = size;
    }
    char *to = a->at;
    if (n > 0)
        memcpy(to, s, n);
    a->at += n;
    a->left -= n;
    return to;
}

static void arena_fini(struct arena *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->blocks[i]);
    free(a->blocks);
}

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
                               struct row *out)
{
    uint64_t first = 0;
    mb_hasher_reset(h);
    mb_record_hash(rec, h);
    out->tokens = mb_hasher_128(h);
    MB_TRY(mb_results_first(r, i, &first));
    MB_TRY(hash_bulk(r, i, first, (uint64_t)rec->n_rows, rec->status != MB_ROW_ERROR && rec->status != MB_ROW_PENDING, h));
    out->hash = mb_hasher_128(h);
    return MB_OK;
}

/* ---------------------------------------------------------------- the file */
static int by_id(const void *pa, const void *pb)
{
    const struct row *a = pa, *b = pb;
    size_t n = a->id_len < b->id_len ? a->id_len : b->id_len;
    int c = n == 0 ? 0 : memcmp(a->id, b->id, n);
    if (c != 0)
        return c;
    if (a->id_len != b->id_len)
        return a->id_len < b->id_len ? -1 : 1;
    if (a->choice != b->choice)
        return a->choice < b->choice ? -1 : 1;
    if (a->hash.hi != b->hash.hi)
        return a->hash.hi < b->hash.hi ? -1 : 1;
    return a->hash.lo < b->hash.lo ? -1 : a->hash.lo > b->hash.lo;
}

static enum mb_status hash_rows(struct mb_results *r, struct row *rows, struct arena *ids, struct mb_digest *d)
{
    struct mb_hasher *h = mb_hasher_create();
    enum mb_status st = h == NULL ? mb_error(MB_NO_MEMORY, "no memory to hash rows") : MB_OK;
    for (uint64_t i = 0; i < mb_results_info(r)->rows && st == MB_OK; i++) {
        struct mb_record rec;
        struct row *row = &rows[d->rows];
        st = mb_results_row(r, i, &rec);
        if (st != MB_OK)
            break;
        st = hash_row(r, i, &rec, h, row);
        row->choice = (uint32_t)rec.choice;
        row->id_len = (uint32_t)rec.id.len;
        row->id = arena_put(ids, rec.id.data, rec.id.len);
        if (row->id == NULL && st == MB_OK)
            st = mb_error(MB_NO_MEMORY, "no memory for the ids of the rows");
        if (rec.status == MB_ROW_DEGRADED)
            d->degraded++;
        else
            d->rows++;
        mb_record_fini(&rec);
    }
    mb_hasher_destroy(h);
    return st;
}

/* From here on the hash of a row is that of its tokens. */
static void keep_tokens(struct row *rows, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        rows[i].hash = rows[i].tokens;
}

static enum mb_status hash_all(const struct row *rows, uint64_t n, FILE *requests, struct mb_hash128 *out)
{
    struct mb_hasher *h = mb_hasher_create();
    char hex[33];
    if (h == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to hash rows");
    for (uint64_t i = 0; i < n; i++) {
        /* the canonical form of XXH3: big-endian, high half first */
        uint64_t bytes[2] = {__builtin_bswap64(rows[i].hash.hi), __builtin_bswap64(rows[i].hash.lo)};
        mb_hasher_put(h, bytes, sizeof bytes);
        mb_hash128_hex(rows[i].hash, hex);
        if (requests != NULL)
            fprintf(requests, "%s %.*s %u\n", hex, (int)rows[i].id_len, rows[i].id, rows[i].choice);
    }
    *out = mb_hasher_128(h);
    mb_hasher_destroy(h);
    return MB_OK;
}

enum mb_status mb_digest_file(struct mb_results *r, bool in_order, FILE *requests, struct mb_digest *out)
{
    struct mb_digest d = {.rows = 0};
    struct arena ids = {0};
    uint64_t n = mb_results_info(r)->rows;
    struct row *rows = mb_alloc(NULL, MB_MEM_INDEX, (size_t)n, sizeof *rows);
    enum mb_status st = rows == NULL ? mb_error(MB_NO_MEMORY, "no memory for the hashes of %llu rows",
                                                (unsigned long long)n) : MB_OK;
    if (st == MB_OK)
        st = hash_rows(r, rows, &ids, &d);
    for (int tokens = 0; tokens < 2 && st == MB_OK; tokens++) {
        if (tokens)
            keep_tokens(rows, d.rows);
        if (!in_order && d.rows > 0)
            qsort(rows, (size_t)d.rows, sizeof *rows, by_id);
        st = hash_all(rows, d.rows, tokens ? NULL : requests, tokens ? &d.tokens : &d.file);
    }
    arena_fini(&ids);
    mb_free(rows);
    if (st == MB_OK)
        *out = d;
    return st;
}
