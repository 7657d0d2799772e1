/* A synthetic job for tests of assembly: the records of tests/records.h with routing and logits that follow from (line,
 * choice, row), written to journals by any writer in any run, and the digest computed from the records themselves. */
#ifndef TESTS_SYNTH_H
#define TESTS_SYNTH_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "io/journal.h"
#include "io/scan.h"
#include "io/shape.h"
#include "records.h"

#define SYNTH_CHECK(cond)                                                                                              \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #cond);                                   \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#define LM 3
#define K 2
#define V 5

static const struct mb_identity synth_identity = {.input = {1, 2}, .model = {3, 4}, .seed = 5, .path = (char *)"f32"};
static int32_t synth_layers[LM] = {1, 2, 4};

struct synth_job {
    const char *name;
    uint64_t lines; /* [first, lines) */
    bool routing, logits, last;
    uint64_t min_lines, round_bytes; /* of assembly */
    uint64_t first;
    uint64_t left_out; /* every so-manieth line is not done; 0: none */
};

/* ---------------------------------------------------------------- bulk rows follow from (line, choice, row) */
static inline uint64_t synth_bulk_seed(const struct mb_record *r, int64_t row)
{
    return rec_mix(r->line * 977 + (uint64_t)r->choice * 31 + (uint64_t)row * 7);
}

static inline void synth_bulk_row(const struct mb_record *r, int64_t row, uint16_t experts[LM * K], float weights[LM * K], float logits[V])
{
    uint64_t s = synth_bulk_seed(r, row);
    for (int i = 0; i < LM * K; i++) {
        experts[i] = (uint16_t)(rec_mix(s + (uint64_t)i) % 64);
        weights[i] = (float)(rec_mix(s + 100 + (uint64_t)i) % 1000) / 1000.0f;
    }
    for (int i = 0; i < V; i++)
        logits[i] = (float)(rec_mix(s + 200 + (uint64_t)i) % 1000) - 500.0f;
    if (s % 5 == 0)
        logits[1] = NAN;
}

static inline struct mb_shape synth_shape_of(const struct synth_job *j)
{
    return (struct mb_shape){.routing = j->routing, .logits = j->logits, .logits_last = j->last, .n_layers = LM,
                             .layers = synth_layers, .k = K, .vocab = V};
}

static inline void synth_put_bulk(struct mb_journal *w, const struct mb_shape *s, struct mb_record *r)
{
    for (int kind = 0; kind < MB_BULK_COUNT; kind++) {
        uint64_t size = mb_shape_row_bytes(s, (enum mb_bulk_kind)kind), at;
        int64_t rows = kind == MB_BULK_LOGITS && s->logits_last && r->n_rows > 0 ? 1 : r->n_rows;
        if (size == 0 || rows == 0 || r->status == MB_ROW_ERROR)
            continue;
        SYNTH_CHECK(mb_bulk_reserve(w, (enum mb_bulk_kind)kind, (uint64_t)rows * size, &at) == MB_OK);
        r->bulk[kind] = (struct mb_extent){at, rows};
        for (int64_t i = 0; i < rows; i++) {
            uint16_t e[LM * K], *ep = e;
            float wt[LM * K], lg[V];
            synth_bulk_row(r, rows == 1 && kind == MB_BULK_LOGITS && s->logits_last ? r->n_rows - 1 : i, e, wt, lg);
            const void *p = kind == MB_BULK_WEIGHTS ? (void *)wt : kind == MB_BULK_LOGITS ? (void *)lg : (void *)ep;
            SYNTH_CHECK(mb_bulk_write(w, (enum mb_bulk_kind)kind, at + (uint64_t)i * size, p, size) == MB_OK);
        }
    }
}

/* Row (line, choice) is written by a rank and run that follow from it; every 13th by both runs. */
static inline bool synth_writes(uint64_t line, int32_t choice, int run, int rank, int size)
{
    uint64_t m = rec_mix(line * 3 + (uint64_t)choice);
    int w = (int)(m % (uint64_t)size), in = 1 + (int)(m >> 32 & 1);
    return rank == w && (in == run || line % 13 == 0);
}

static inline void synth_write_journal(const struct synth_job *j, const struct mb_identity *identity, const char *dir, int run,
                                       int rank, int size)
{
    struct mb_journal *w = NULL;
    struct mb_shape s = synth_shape_of(j);
    uint64_t row_bytes[MB_BULK_COUNT];
    char *path = mb_run_path(dir, run);
    struct mb_journal_options o = {.dir = path, .identity = identity, .run = run, .rank = rank};
    SYNTH_CHECK(mb_journal_create(&o, &w) == MB_OK);
    for (int i = 0; i < MB_BULK_COUNT; i++)
        row_bytes[i] = mb_shape_row_bytes(&s, (enum mb_bulk_kind)i);
    mb_journal_bulk_rows(w, row_bytes);
    for (uint64_t n = 0; n < j->lines - j->first; n++) {
        uint64_t line = j->lines - 1 - n; /* completion order is not input order */
        if (j->left_out > 0 && line % j->left_out == 0)
            continue;
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record r;
            if (!synth_writes(line, c, run, rank, size))
                continue;
            rec_make(line, c, &r);
            synth_put_bulk(w, &s, &r);
            SYNTH_CHECK(mb_journal_record(w, &r) == MB_OK);
            mb_record_fini(&r);
        }
        if (n % 32 == 0)
            SYNTH_CHECK(mb_journal_flush(w) == MB_OK);
    }
    mb_journal_destroy(w);
    free(path);
}

/* ---------------------------------------------------------------- the digest from the records */
static inline void synth_hash_bulk(const struct synth_job *j, const struct mb_record *r, struct mb_hasher *h)
{
    int64_t n = r->status == MB_ROW_ERROR ? 0 : r->n_rows;
    uint16_t *e = calloc((size_t)(n + 1) * LM * K, sizeof *e);
    float *w = calloc((size_t)(n + 1) * LM * K, sizeof *w), *lg = calloc((size_t)(n + 1) * V, sizeof *lg);
    for (int64_t i = 0; i < n; i++)
        synth_bulk_row(r, i, e + i * LM * K, w + i * LM * K, lg + i * V);
    uint16_t *le = calloc((size_t)(n + 1) * K, sizeof *le);
    float *lw = calloc((size_t)(n + 1) * K, sizeof *lw);
    for (int l = 0; l < LM && j->routing; l++) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(le + i * K, e + (i * LM + l) * K, K * sizeof *le);
            memcpy(lw + i * K, w + (i * LM + l) * K, K * sizeof *lw);
        }
        mb_hasher_field(h, le, (size_t)n * K * sizeof *le);
        mb_record_hash_f32(h, lw, (uint64_t)n * K);
    }
    if (j->logits && j->last)
        mb_record_hash_f32(h, lg + (n > 0 ? n - 1 : 0) * V, n > 0 ? V : 0);
    else if (j->logits)
        mb_record_hash_f32(h, lg, (uint64_t)n * V);
    free(e);
    free(w);
    free(lg);
    free(le);
    free(lw);
}

/* File digest in the order of the input. */
static inline struct mb_hash128 synth_expected(const struct synth_job *j, int64_t *rows)
{
    struct mb_hasher *all = mb_hasher_create(), *h = mb_hasher_create();
    *rows = 0;
    for (uint64_t line = j->first; line < j->lines; line++) {
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record r;
            rec_make(line, c, &r);
            mb_hasher_reset(h);
            if (r.status == MB_ROW_ERROR)
                r.n_prompt = r.n_rows = 0;
            mb_record_hash(&r, h);
            synth_hash_bulk(j, &r, h);
            struct mb_hash128 d = mb_hasher_128(h);
            uint64_t bytes[2] = {__builtin_bswap64(d.hi), __builtin_bswap64(d.lo)};
            mb_hasher_put(all, bytes, sizeof bytes);
            mb_record_fini(&r);
            (*rows)++;
        }
    }
    struct mb_hash128 out = mb_hasher_128(all);
    mb_hasher_destroy(all);
    mb_hasher_destroy(h);
    return out;
}
#endif
