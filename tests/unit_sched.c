/* The scheduler without ranks, weights or a device: requests come from a script, a rule stands for the model,
 * and every batch and record is held against what a walk over the rule alone gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/numerics.h"
#include "draw.h"
#include "engine/sched.h"
#include "plan/grid.h"

#define VOCAB 50
#define EOS 7   /* ends a row */
#define STOPS 9 /* the sink finds a stop string behind it */
#define MOST 64 /* requests of a game */
#define MAX_OUT 200

static struct mb_mem mem;

/* The model: the token behind id at a position. */
static int32_t next_of(int32_t id, int64_t pos)
{
    return (int32_t)((id * 31 + pos * 17 + 11) % VOCAB);
}

struct wish {
    int64_t n_prompt, max_tokens;
    int32_t choices, forced;
    bool ignore_eos, error, score;
    const char *adapter;
};

struct game {
    struct mb_source source;
    struct mb_sink sink;
    struct wish wish[MOST];
    int32_t n, given, wait; /* wait: the source has nothing every so many calls */
    struct mb_sched s;
    struct mb_batch b;
    struct mb_batch_limits limits;
    struct mb_counters counters;
    int32_t begun, rows, errors;          /* records */
    int32_t tokens[MOST][MB_MAX_CHOICES]; /* told to the sink, by row */
    int32_t row_of[1024];                 /* handle -> line * MB_MAX_CHOICES + choice */
    struct mb_seq *owner[4][1024];        /* [part][page] */
    struct {
        int32_t drawn[256];
        int64_t step;
    } under_way[8]; /* results of flights, by step */
    int64_t step;
    int32_t bad_row, bad_layer; /* this row of every batch has a bad logit, router */
    int32_t fail_every;         /* as many landings with rows fail their first sequence; 0: none */
    int32_t landed;
};

/* ---------------------------------------------------------------- source and sink */

static int32_t prompt_id(uint64_t line, int64_t i)
{
    return (int32_t)((line * 13 + (uint64_t)i * 5 + 3) % VOCAB);
}

/* What a choice draws: to the end of its row. Returns how many; *finish: why no more. */
static int64_t expected(const struct wish *w, uint64_t line, int32_t *ids, enum mb_finish *finish)
{
    int32_t id = prompt_id(line, w->n_prompt - 1);
    int64_t n = 0;

    *finish = MB_FINISH_LENGTH;
    while (n < w->max_tokens) {
        id = ids[n] = next_of(id, w->n_prompt - 1 + n);
        n++;
        if (id == EOS && !w->ignore_eos) {
            *finish = MB_FINISH_EOS;
            return n;
        }
        if (id == STOPS) {
            *finish = MB_FINISH_STOP;
            return n;
        }
    }
    return n;
}

static struct mb_request *request(const struct wish *w, uint64_t line)
{
    struct mb_request *r = calloc(1, sizeof *r);
    int32_t ids[MAX_OUT];
    enum mb_finish finish;

    assert_non_null(r);
    r->line = line;
    r->id.data = calloc(1, 24);
    assert_non_null(r->id.data);
    r->id.len = (size_t)snprintf(r->id.data, 24, "r%d", (int)line);
    r->n = w->choices;
    mb_sampling_init(&r->sampling);
    if (w->error) {
        r->error = strdup("the line makes no sense");
        return r;
    }
    r->kind = w->score ? MB_KIND_LOGLIKELIHOOD : MB_KIND_GENERATE;
    r->sampling.max_tokens = w->max_tokens;
    r->sampling.ignore_eos = w->ignore_eos;
    r->n_prompt = w->n_prompt;
    r->score_from = w->score ? 1 : w->n_prompt;
    r->adapter = w->adapter != NULL ? strdup(w->adapter) : NULL;
    r->prompt = mb_alloc(&mem, MB_MEM_REQUESTS, (size_t)w->n_prompt, sizeof *r->prompt);
    for (int64_t i = 0; i < w->n_prompt; i++)
        r->prompt[i] = prompt_id(line, i);
    if (w->forced != 0) { /* the first choice was under way; negative: what is known of it is wrong */
        int32_t n = abs(w->forced);
        r->resume = mb_zalloc(&mem, MB_MEM_REQUESTS, (size_t)w->choices, sizeof *r->resume);
        r->resume[0].forced = mb_alloc(&mem, MB_MEM_REQUESTS, (size_t)n, sizeof(int32_t));
        r->resume[0].n_forced = n;
        assert_true(expected(w, line, ids, &finish) >= n);
        memcpy(r->resume[0].forced, ids, sizeof *ids * (size_t)n);
        if (w->forced < 0)
            r->resume[0].forced[n - 1] = (ids[n - 1] + 1) % VOCAB;
    }
    return r;
}

static enum mb_status next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state)
{
    struct game *g = (struct game *)s;

    assert_true(room > 0);
    *n = 0;
    if (g->wait > 0 && ++g->given % g->wait == 0) {
        *state = MB_SOURCE_WAIT;
        return MB_OK;
    }
    for (; *n < room && g->n > 0 && g->begun < g->n; g->begun++)
        out[(*n)++] = request(&g->wish[g->begun], (uint64_t)g->begun);
    *state = *n > 0 ? MB_SOURCE_SOME : MB_SOURCE_END;
    return MB_OK;
}

static enum mb_status begin(struct mb_sink *k, const struct mb_request *req, int32_t choice, int64_t max_rows,
                            int32_t *handle)
{
    struct game *g = (struct game *)((char *)k - offsetof(struct game, sink));

    assert_true(max_rows >= req->n_prompt);
    *handle = (int32_t)req->line * 8 + choice;
    g->row_of[*handle] = (int32_t)req->line;
    return MB_OK;
}

static enum mb_status token(struct mb_sink *k, int32_t handle, int64_t index, int32_t id, bool journal,
                            bool *stop)
{
    struct game *g = (struct game *)((char *)k - offsetof(struct game, sink));
    int32_t line = g->row_of[handle], choice = handle % 8;
    const struct wish *w = &g->wish[line];

    assert_int_equal(index, g->tokens[line][choice]++); /* each once, in order */
    assert_true(journal == (choice > 0 || index >= abs(w->forced)));
    *stop = id == STOPS;
    return MB_OK;
}

static enum mb_status bulk(struct mb_sink *k, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data)
{
    (void)k, (void)handle;
    assert_int_equal(kind, MB_BULK_MTP); /* the last row, of which the module says nothing */
    assert_true(n == 1 && row >= 0);
    for (int i = 0; i < VOCAB; i++)
        assert_true(isnan(((const float *)data)[i]));
    return MB_OK;
}

static enum mb_status done(struct mb_sink *k, int32_t handle, struct mb_record *rec)
{
    struct game *g = (struct game *)((char *)k - offsetof(struct game, sink));
    const struct wish *w = &g->wish[rec->line];
    int32_t ids[MAX_OUT];
    enum mb_finish finish;

    (void)handle;
    g->rows++;
    g->errors += rec->status == MB_ROW_ERROR;
    if (rec->status != MB_ROW_ERROR && w->score) {
        assert_int_equal(rec->n_output, 0);
        for (int64_t i = 1; i < w->n_prompt; i++)
            assert_true(rec->prompt_logprobs[i] == -(float)(i - 1)); /* what the row before said */
    } else if (rec->status != MB_ROW_ERROR) {
        assert_int_equal(rec->n_output, expected(w, rec->line, ids, &finish));
        assert_memory_equal(rec->output_ids, ids, sizeof *ids * (size_t)rec->n_output);
        assert_int_equal(rec->finish, finish);
        assert_int_equal(g->tokens[rec->line][rec->choice], rec->n_output);
        for (int64_t i = 0; i < rec->n_output; i++)
            assert_true(rec->output_logprobs[i] == -(float)(w->n_prompt - 1 + i));
    }
    mb_record_fini(rec);
    return MB_OK;
}

static enum mb_status step_end(struct mb_sink *k)
{
    (void)k;
    return MB_OK;
}

/* ---------------------------------------------------------------- the game */

static const char *const adapters[] = {"one", "two"};

static struct mb_sched_options usual(void)
{
    static const int32_t eos[] = {EOS};

    return (struct mb_sched_options){.mem = &mem,
                                     .seed = 1,
                                     .max_seqs = 6,
                                     .max_rows = 40,
                                     .max_pages = 8,
                                     .kv_pages = 12,
                                     .parts = 1,
                                     .segment = 64,
                                     .depth = 1,
                                     .eos = eos,
                                     .n_eos = 1,
                                     .vocab = VOCAB,
                                     .adapter_names = adapters,
                                     .n_adapters = 2};
}

static void open_game(struct game *g, const struct mb_sched_options *o)
{
    static const struct mb_source_ops source_ops = {next};
    static const struct mb_sink_ops sink_ops = {begin, token, bulk, done, step_end};

    g->source.ops = &source_ops;
    g->sink.ops = &sink_ops;
    g->bad_row = g->bad_layer = -1;
    g->limits = (struct mb_batch_limits){&mem, o->max_rows, o->max_seqs, o->max_pages};
    assert_int_equal(mb_batch_create(&g->limits, o->parts, &g->b), MB_OK);
    assert_int_equal(mb_sched_create(o, &g->counters, &g->s), MB_OK);
}

static void close_game(struct game *g)
{
    mb_sched_destroy(&g->s);
    mb_batch_destroy(&g->b);
    assert_int_equal(mb_mem_total(&mem), 0);
}

/* Pages belong to one sequence each, and their number is right. */
static void check_pages(struct game *g)
{
    const struct mb_sched *s = &g->s;
    int64_t used = 0;

    memset(g->owner, 0, sizeof g->owner);
    for (int32_t i = 0; i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        used += q->n_pages;
        assert_int_equal(q->n_pages, (mb_seq_positions(q) + MB_KV_BLOCK - 1) / MB_KV_BLOCK);
        for (int32_t k = 0; k < q->n_pages; k++) {
            int32_t part = mb_layout_part(s->o.parts, k * MB_KV_BLOCK / s->o.segment);
            assert_in_range(q->page[k], 0, s->o.kv_pages - 1);
            assert_null(g->owner[part][q->page[k]]);
            g->owner[part][q->page[k]] = q;
        }
    }
    for (int32_t p = 0; p < s->o.parts; p++) {
        for (int32_t i = 0; i < s->pages.n[p]; i++)
            assert_null(g->owner[p][s->pages.page[p][i]]);
    }
    assert_int_equal(mb_sched_pages_used(s), used);
    assert_in_range(s->n_running, 0, s->o.max_seqs);
}

/* The rows of one sequence in a batch: its next ones, of the ids that the rule gives. */
static int32_t check_rows(const struct game *g, const struct mb_flight *f, int32_t i, int32_t r)
{
    const struct mb_batch *b = &g->b;
    const struct mb_seq *q = f->seq[i];

    assert_int_equal(f->seq_row[i], r);
    assert_true(f->seq_rows[i] > 0 && f->seq_pos[i] + f->seq_rows[i] == q->n_sched);
    assert_memory_equal(b->page_table + (size_t)i * (size_t)b->max_pages, q->page,
                        sizeof(int32_t) * (size_t)q->n_pages);
    for (int32_t k = 0; k < f->seq_rows[i]; k++, r++) {
        int64_t pos = f->seq_pos[i] + k;
        assert_int_equal(b->row_seq[r], i);
        assert_int_equal(b->pos[r], pos);
        assert_int_equal(b->tag[r], q->adapter + 1);
        assert_int_equal(b->rope[r], pos + (q->rope_long ? g->s.o.rope_rows : 0));
        assert_int_equal(b->ids[r], pos < q->n_prompt ? prompt_id(q->job->req->line, pos)
                                                      : next_of(q->ids[pos - 1], pos - 1));
    }
    return r;
}

static void check_batch(const struct game *g)
{
    const struct mb_batch *b = &g->b;
    const struct mb_sched *s = &g->s;
    const struct mb_flight *f = &s->flight[(s->first_flight + s->n_flights) % s->o.depth];
    int32_t r = 0, before = -1;
    bool prefill = false;

    assert_in_range(b->rows, 0, s->o.max_rows);
    assert_true(f->rows == b->rows && f->seqs == b->seqs && f->n_out == b->n_out);
    for (int32_t i = 0; i < b->seqs; i++) {
        bool decode = f->seq_pos[i] >= f->seq[i]->n_prompt;
        assert_false(decode && prefill);           /* those that wait for one row come first */
        before = decode == !prefill ? before : -1; /* adapters ascend in both halves */
        prefill |= !decode;
        assert_true(f->seq[i]->adapter >= before);
        before = f->seq[i]->adapter;
        r = check_rows(g, f, i, r);
    }
    assert_int_equal(r, b->rows);
    for (int32_t i = 0; i < b->n_out; i++) {
        assert_true(i == 0 || b->out[i].row > b->out[i - 1].row);
        assert_true(f->out_seq[i] == f->seq[b->row_seq[b->out[i].row]]);
    }
}

/* What the model says of the batch's rows with logits. */
static void compute(struct game *g, int64_t step)
{
    for (int32_t i = 0; i < g->b.n_out; i++)
        g->under_way[step % 8].drawn[i] = next_of(g->b.ids[g->b.out[i].row], g->b.pos[g->b.out[i].row]);
    g->under_way[step % 8].step = step;
}

/* Who has rows under way has not left. */
static void check_running(const struct game *g, const struct mb_seq *q)
{
    int32_t n = 0;

    for (int32_t i = 0; i < g->s.n_running; i++)
        n += g->s.running[i] == q;
    assert_int_equal(n, 1);
}

/* With several steps under way each takes its part of those that wait for one row. */
static void check_part(const struct game *g)
{
    const struct mb_flight *f = &g->s.flight[(g->s.first_flight + g->s.n_flights) % g->s.o.depth];
    int32_t decode = 0;

    for (int32_t i = 0; i < f->seqs; i++)
        decode += f->seq_pos[i] >= f->seq[i]->n_prompt;
    assert_in_range(decode, 0, (g->s.n_running + g->s.o.depth - 1) / g->s.o.depth);
}

/* The results of the oldest flight. */
static enum mb_status land(struct game *g)
{
    static int32_t ints[(4 + MB_MAX_TOP) * 256];
    static float floats[(1 + MB_MAX_TOP) * 256];
    const struct mb_flight *f = mb_sched_oldest(&g->s);
    struct mb_found found;
    enum mb_status st = MB_OK;

    mb_found_over(ints, floats, 256, &found);
    mb_found_reset(&found, f->rows);
    assert_true(f->rows == 0 || g->under_way[f->step % 8].step == f->step);
    for (int32_t i = 0; i < f->n_out; i++) {
        found.drawn[i] = g->under_way[f->step % 8].drawn[i];
        found.best[i] = found.drawn[i];
        found.bad[i] = i == g->bad_row;
        found.lp[i] = -(float)f->out_pos[i];
    }
    for (int32_t i = 0; i < f->seqs; i++)
        check_running(g, f->seq[i]);
    if (f->rows > 0 && g->fail_every > 0 && ++g->landed % g->fail_every == 0)
        found.bad_layer[0] = 3;
    if (g->bad_layer >= 0 && f->rows > 0)
        found.bad_layer[0] = g->bad_layer;
    if (f->rows > 0)
        st = mb_sched_use(&g->s, f, &found, &g->sink);
    if (st == MB_OK)
        st = mb_sched_retire(&g->s, f, &g->sink);
    mb_sched_land(&g->s);
    return st;
}

/* One step as the leader of a pipeline of depth stages does it. */
static enum mb_status one_step(struct game *g)
{
    struct mb_sched *s = &g->s;

    g->step++;
    for (;;) {
        MB_TRY(mb_sched_fill(s, &g->source, &g->sink));
        check_pages(g);
        MB_TRY(mb_sched_batch(s, &g->b));
        if (s->o.depth == 1)
            check_batch(g);
        check_part(g);
        if (g->b.rows > 0 || s->n_flights == 0)
            break;
        MB_TRY(land(g));
    }
    compute(g, g->step);
    (void)mb_sched_launch(s, g->step, g->b.rows > 0);
    while (s->n_flights == s->o.depth)
        MB_TRY(land(g));
    check_pages(g);
    return MB_OK;
}

static void play(struct game *g)
{
    int32_t all = 0;

    for (int32_t i = 0; i < g->n; i++)
        all += g->wish[i].choices;
    for (int steps = 0; !mb_sched_idle(&g->s); steps++) {
        assert_true(steps < 20000);
        assert_int_equal(one_step(g), MB_OK);
    }
    while (g->s.n_flights > 0)
        assert_int_equal(land(g), MB_OK);
    assert_int_equal(g->rows, all);
    assert_int_equal(g->counters.requests_done, all);
    assert_int_equal(g->counters.requests_error, g->errors);
    assert_int_equal(mb_sched_pages_used(&g->s), 0);
}

static struct game *new_game(void)
{
    struct game *g = calloc(1, sizeof *g);
    assert_non_null(g);
    return g;
}

/* ---------------------------------------------------------------- tests */

static void texts_end(void **state)
{
    static const struct wish wishes[] = {
        {.n_prompt = 16, .max_tokens = 60, .choices = 1},                    /* EOS after 7 */
        {.n_prompt = 7, .max_tokens = 60, .choices = 2, .ignore_eos = true}, /* STOPS after 6 */
        {.n_prompt = 1, .max_tokens = 1, .choices = 1},
        {.n_prompt = 3, .max_tokens = 0, .choices = 1}, /* nothing is drawn */
        {.n_prompt = 30, .max_tokens = 0, .choices = 1, .score = true},
        {.n_prompt = 4, .max_tokens = 3, .choices = 3, .error = true},
        {.n_prompt = 90, .max_tokens = 20, .choices = 1}, /* its prompt takes more than one step */
    };
    struct game *g = new_game();
    struct mb_sched_options o = usual();
    int finishes[5] = {0};

    (void)state;
    o.mtp = true; /* and of the last row the module says nothing */
    g->n = sizeof wishes / sizeof wishes[0];
    memcpy(g->wish, wishes, sizeof wishes);
    for (int i = 0; i < g->n; i++) {
        int32_t ids[MAX_OUT];
        enum mb_finish finish;
        (void)expected(&wishes[i], (uint64_t)i, ids, &finish);
        finishes[finish]++;
    }
    assert_true(finishes[MB_FINISH_EOS] > 0 && finishes[MB_FINISH_STOP] > 0 &&
                finishes[MB_FINISH_LENGTH] > 0);
    open_game(g, &o);
    play(g);
    assert_int_equal(g->errors, 3);
    close_game(g);
    free(g);
}

/* A sequence that needs more pages than there are is refused; one that has to wait keeps its turn. */
static void pages_run_out(void **state)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();

    (void)state;
    o.kv_pages = 3;
    g->wish[0] =
        (struct wish){.n_prompt = 100, .max_tokens = 20, .choices = 1, .ignore_eos = true}; /* 2 pages */
    g->wish[1] = (struct wish){.n_prompt = 129, .max_tokens = 20, .choices = 1}; /* 3: has to wait */
    g->wish[2] =
        (struct wish){.n_prompt = 10, .max_tokens = 5, .choices = 1}; /* 1, but its turn comes later */
    g->wish[3] = (struct wish){.n_prompt = 190, .max_tokens = 20, .choices = 1}; /* 4: never */
    g->n = 4;
    open_game(g, &o);
    assert_int_equal(one_step(g), MB_OK);
    assert_int_equal(g->s.n_running, 1);
    assert_non_null(g->s.held);
    assert_int_equal(mb_sched_pages_used(&g->s), 2);
    play(g);
    assert_int_equal(g->errors, 1);
    close_game(g);
    free(g);
}

static void journals_are_held_to(void **state)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();

    (void)state;
    g->wish[0] =
        (struct wish){.n_prompt = 6, .max_tokens = 12, .choices = 2, .ignore_eos = true, .forced = 3};
    g->n = 1;
    open_game(g, &o);
    play(g);
    close_game(g);
    memset(g, 0, sizeof *g);
    g->wish[0] =
        (struct wish){.n_prompt = 6, .max_tokens = 12, .choices = 1, .ignore_eos = true, .forced = -3};
    g->n = 1;
    open_game(g, &o);
    enum mb_status st = MB_OK;
    for (int i = 0; st == MB_OK && i < 20; i++)
        st = one_step(g);
    assert_int_equal(st, MB_CORRUPT);
    close_game(g); /* with rows under way */
    free(g);
}

static void bad_numbers_fail_their_row(void **state)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();

    (void)state;
    for (int i = 0; i < 3; i++)
        g->wish[i] = (struct wish){.n_prompt = 5 + i, .max_tokens = 4, .choices = 1, .ignore_eos = true};
    g->n = 3;
    open_game(g, &o);
    g->bad_row = 1; /* the second row with logits, as long as there is one */
    assert_int_equal(one_step(g), MB_OK);
    assert_int_equal(g->errors, 1);
    g->bad_row = -1;
    g->bad_layer = 4;
    assert_int_equal(one_step(g), MB_OK);
    assert_int_equal(g->errors, 2);
    g->bad_layer = -1;
    play(g);
    assert_int_equal(g->errors, 2);
    close_game(g);
    free(g);
}

/* Longrope: what may grow beyond the switch takes the long table from its first row on. */
static void long_texts_turn_otherwise(void **state)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();

    (void)state;
    o.rope_switch = 50;
    o.rope_rows = 1000;
    g->wish[0] = (struct wish){.n_prompt = 30, .max_tokens = 20, .choices = 1};
    g->wish[1] = (struct wish){.n_prompt = 30, .max_tokens = 21, .choices = 1};
    g->n = 2;
    open_game(g, &o);
    assert_int_equal(one_step(g), MB_OK);
    assert_int_equal(g->b.rope[0], 0);
    assert_int_equal(g->b.rope[30], 1000);
    play(g);
    close_game(g);
    free(g);
}

static void draw_wish(struct wish *w)
{
    *w = (struct wish){.n_prompt = draw(4) == 0 ? 1 + draw(200) : 1 + draw(20),
                       .max_tokens = draw(50),
                       .choices = 1 + draw(3),
                       .ignore_eos = draw(2) == 0,
                       .error = draw(9) == 0,
                       .score = draw(7) == 0};
    if (draw(2) == 0)
        w->adapter = adapters[draw(2)];
    if (w->score) {
        w->max_tokens = 0;
        w->choices = 1;
    }
}

/* Drawn requests under drawn limits, pipelines and sequence groups: every row is right, and nothing is left.
 */
static void many_games(void **state)
{
    (void)state;
    state_of_draw = 2026;
    for (int round = 0; round < 300; round++) {
        struct game *g = new_game();
        struct mb_sched_options o = usual();
        o.max_seqs = 1 + draw(9);
        o.max_rows = 1 + draw(60);
        o.kv_pages = 4 + draw(12);
        o.parts = 1 << draw(3);
        o.depth = 1 + draw(3);
        o.mtp = draw(2) == 0;
        g->wait = draw(3) == 0 ? 2 + draw(3) : 0;
        g->fail_every = draw(2) == 0 ? 2 + draw(5) : 0;
        g->n = 1 + draw(20);
        for (int i = 0; i < g->n; i++)
            draw_wish(&g->wish[i]);
        open_game(g, &o);
        play(g);
        close_game(g);
        free(g);
    }
}

/* Each rank's share of a batch: parts by their segments, own rows by even shares; together all rows once. */
static void batches_are_divided(void **state)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();
    int seen[64] = {0};

    (void)state;
    o.parts = 2;
    g->wish[0] = (struct wish){.n_prompt = 170, .max_tokens = 4, .choices = 1};
    g->wish[1] = (struct wish){.n_prompt = 9, .max_tokens = 4, .choices = 1, .adapter = adapters[1]};
    g->n = 2;
    open_game(g, &o);
    for (int i = 0; i < 3; i++)
        assert_int_equal(one_step(g), MB_OK);
    assert_true(g->b.rows > 0);
    for (int32_t q = 0; q < 2; q++) {
        for (int32_t t = 0; t < 3; t++) {
            const struct mb_batch_share share = {q, 2, t, 3, 64};
            mb_batch_divide(&g->b, &share);
            for (int32_t i = 0; i < g->b.part.n; i++) {
                int32_t r = g->b.part.row[i], pos = g->b.pos[r];
                int32_t page = g->b.page_table[g->b.row_seq[r] * g->b.max_pages + pos / MB_KV_BLOCK];
                assert_int_equal(mb_layout_part(2, pos / 64), q);
                assert_int_equal(g->b.part.slot[i], page * MB_KV_BLOCK + pos % MB_KV_BLOCK);
            }
            for (int32_t i = 0; i < g->b.part.n_own; i++)
                seen[mb_own_row(&g->b, i)]++;
        }
    }
    for (int32_t r = 0; r < g->b.rows; r++)
        assert_int_equal(seen[r], 1);
    close_game(g);
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_end),
        cmocka_unit_test(pages_run_out),
        cmocka_unit_test(journals_are_held_to),
        cmocka_unit_test(bad_numbers_fail_their_row),
        cmocka_unit_test(long_texts_turn_otherwise),
        cmocka_unit_test(batches_are_divided),
        cmocka_unit_test(many_games),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
