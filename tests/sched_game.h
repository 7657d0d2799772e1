/* A scheduler played without ranks, weights or a device: requests come from a script, a rule stands for the model,
 * and every batch and record is held against what a walk over the rule alone gives. Pages are played, too: each row
 * leaves a mark of everything it depends on (its kind and all ids up to it), and meets the marks of the positions
 * before it where the batch says that they are. */
#ifndef MB_TEST_SCHED_GAME_H
#define MB_TEST_SCHED_GAME_H
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
#include "engine/sched_impl.h"
#include "plan/grid.h"

#define VOCAB 50
#define EOS 7   /* ends a row */
#define STOPS 9 /* the sink finds a stop string behind it */
#define MOST 2000 /* requests of a game */
#define PAGES 1536 /* of a part */
#define MAX_OUT 1000

static struct mb_mem mem;

/* The model: the token behind id at a position. Under round the position counts in circles, and texts come to repeat themselves. */
static int64_t round_of;
static int32_t next_of(int32_t id, int64_t pos)
{
    pos = round_of > 0 ? pos % round_of : pos;
    return (int32_t)((id * 31 + pos * 17 + 11) % VOCAB);
}

struct wish {
    int64_t n_prompt, max_tokens;
    int32_t choices, forced;
    bool penalty;                           /* what was drawn before counts */
    bool ignore_eos, endless, error, score; /* endless: nothing but max_tokens ends it */
    const char *adapter;
    int64_t common; /* the first ids of its prompt are those of other requests with this stem */
    uint64_t stem;
    int64_t score_from; /* 0: 1 */
    int64_t stop_at;    /* a stop string ends it behind so many tokens; 0: none */
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
    int32_t row_of[MOST * 8];                 /* handle -> line * MB_MAX_CHOICES + choice */
    uint64_t mark[4][PAGES][MB_KV_BLOCK];   /* [part][page] what a row's keys and values stand for */
    struct {
        int32_t drawn[1024], guess[1024], row[1024]; /* of rows with logits; of the batch */
        int64_t step;
    } under_way[8]; /* results of flights, by step */
    int64_t step;
    int32_t bad_row, bad_layer; /* this row of every batch has a bad logit, router */
    int32_t fail_every;         /* as many landings with rows fail their first sequence; 0: none */
    int32_t landed;
    int32_t right; /* of 100 guesses of the module, so many are */
    bool bad_guesses; /* rows of guesses have bad numbers */
};

/* ---------------------------------------------------------------- source and sink */

static int32_t prompt_id(const struct wish *w, uint64_t line, int64_t i)
{
    uint64_t from = i < w->common ? w->stem + 100 : line;
    return (int32_t)((from * 13 + (uint64_t)i * 5 + 3) % VOCAB);
}

/* What a choice draws: to the end of its row. Returns how many; *finish: why no more. */
static int64_t expected(const struct wish *w, uint64_t line, int32_t *ids, enum mb_finish *finish)
{
    int32_t id = prompt_id(w, line, w->n_prompt - 1);
    int64_t n = 0;

    *finish = MB_FINISH_LENGTH;
    while (n < w->max_tokens) {
        id = ids[n] = next_of(id, w->n_prompt - 1 + n);
        n++;
        if (id == EOS && !w->ignore_eos && !w->endless) {
            *finish = MB_FINISH_EOS;
            return n;
        }
        if ((id == STOPS && !w->endless) || n == w->stop_at) {
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
    r->sampling.ignore_eos = w->ignore_eos || w->endless;
    r->sampling.repetition = w->penalty ? 1.5f : 1.0f;
    r->n_prompt = w->n_prompt;
    r->score_from = !w->score ? w->n_prompt : w->score_from > 0 ? w->score_from : 1;
    r->adapter = w->adapter != NULL ? strdup(w->adapter) : NULL;
    r->prompt = mb_alloc(&mem, MB_MEM_REQUESTS, (size_t)w->n_prompt, sizeof *r->prompt);
    for (int64_t i = 0; i < w->n_prompt; i++)
        r->prompt[i] = prompt_id(w, line, i);
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
    *stop = (id == STOPS && !w->endless) || index + 1 == w->stop_at;
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
        int64_t from = w->score_from > 0 ? w->score_from : 1;
        for (int64_t i = from; i < w->n_prompt; i++)
            assert_true(rec->prompt_logprobs[i] == -(float)(i - 1)); /* what the row before said */
        for (int64_t i = 0; i < from; i++)
            assert_true(isnan(rec->prompt_logprobs[i]));
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
    g->limits = (struct mb_batch_limits){&mem, o->max_rows, o->max_seqs, o->max_pages, o->vocab};
    assert_int_equal(mb_batch_create(&g->limits, o->parts, &g->b), MB_OK);
    assert_int_equal(mb_sched_create(o, &g->counters, &g->s), MB_OK);
}

static void close_game(struct game *g)
{
    mb_sched_destroy(&g->s);
    mb_batch_destroy(&g->b);
    assert_int_equal(mb_mem_total(&mem), 0);
}

/* Every page is free, or is held by as many as it says. */
static void check_pages(struct game *g)
{
    const struct mb_sched *s = &g->s;
    int32_t held = 0, seqs[4][PAGES] = {{0}}, nodes[4][PAGES] = {{0}};

    assert_in_range(s->n_running, 0, s->o.max_seqs);
    for (int32_t i = 0; i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        assert_true(q->n_pages <= (mb_seq_positions(q) + MB_KV_BLOCK - 1) / MB_KV_BLOCK);
        assert_true(q->window > 0 || q->done || (int64_t)q->n_pages * MB_KV_BLOCK >= q->n_sched);
        assert_true(i == 0 || q->number > s->running[i - 1]->number);
        for (int32_t k = 0; k < q->n_pages; k++) {
            assert_in_range(q->page[k], 0, s->o.kv_pages - 1);
            seqs[mb_layout_part(s->o.parts, k * MB_KV_BLOCK / s->o.segment)][q->page[k]]++;
        }
    }
    bool unused[4 * PAGES + 256] = {false};
    for (int32_t i = s->prefix.unused; s->prefix.pages != NULL && i >= 0; i = s->prefix.node[i].next)
        unused[i] = true;
    for (int32_t i = 0; s->prefix.pages != NULL && i < s->prefix.n; i++) {
        const struct mb_prefix_node *n = &s->prefix.node[i];
        nodes[n->part][n->page] += !unused[i];
        assert_true(unused[i] || (n->heap >= 0) == (n->children == 0 && n->users == 0));
    }
    for (int32_t p = 0; p < s->o.parts; p++) {
        int32_t free_pages = 0;
        for (int32_t i = 0; i < s->o.kv_pages; i++) {
            const struct mb_page *m = mb_page_at(&s->pages, p, i);
            assert_true(m->seqs == seqs[p][i] && m->nodes == nodes[p][i]);
            free_pages += m->seqs == 0 && m->nodes == 0;
            held += m->seqs > 0;
        }
        assert_int_equal(s->pages.n_free[p], free_pages);
        for (int32_t i = 0; i < free_pages; i++)
            assert_int_equal(seqs[p][s->pages.stack[p * s->o.kv_pages + i]], 0);
    }
    assert_int_equal(mb_sched_pages_used(s), held);
}

/* What a row of a sequence depends on. */
static uint64_t mark_of(uint64_t before, int32_t id)
{
    return (before ^ (uint64_t)(id + 1)) * 0x9e3779b97f4a7c15u + (before >> 29);
}

/* Copies, then the rows of a batch as each rank does them: all of them put their marks, then each looks at those of
 * every position before it. */
static void play_pages(struct game *g, const struct mb_flight *f)
{
    const struct mb_batch *b = &g->b;
    const struct mb_sched *s = &g->s;

    for (int32_t i = 0; i < b->n_copies; i++)
        memcpy(g->mark[b->copy[i].part][b->copy[i].to], g->mark[b->copy[i].part][b->copy[i].from], sizeof g->mark[0][0]);
    for (int look = 0; look < 2; look++) {
        for (int32_t i = 0; i < b->seqs; i++) {
            const struct mb_seq *q = f->seq[i];
            uint64_t m = (uint64_t)(q->kind.adapter * 2 + q->kind.rope_long);
            int32_t *page = b->page_table + (size_t)i * (size_t)b->max_pages;
            for (int64_t pos = 0; pos < f->seq_pos[i] + f->seq_rows[i]; pos++) {
                int32_t part = mb_layout_part(s->o.parts, pos / MB_KV_BLOCK * MB_KV_BLOCK / s->o.segment);
                uint64_t *at = &g->mark[part][page[pos / MB_KV_BLOCK]][pos % MB_KV_BLOCK];
                m = mark_of(m, q->ids[pos]);
                if (look)
                    assert_true(*at == m);
                else if (pos >= f->seq_pos[i])
                    *at = m;
            }
        }
    }
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
        assert_int_equal(b->tag[r], q->kind.adapter + 1);
        assert_int_equal(b->rope[r], pos + (q->kind.rope_long ? g->s.o.rope_rows : 0));
        if (k >= f->seq_rows[i] - q->way.drafts) { /* any */
            assert_true(k > 0 && b->ids[r] == q->ids[pos] && pos >= q->n_ids && pos < q->rows_total);
            continue;
        }
        assert_int_equal(b->ids[r], pos < q->n_prompt ? prompt_id(&g->wish[q->job->req->line], q->job->req->line, pos)
                                                      : next_of(q->ids[pos - 1], pos - 1));
    }
    return r;
}

/* What a draw knows of the tokens before it, counted anew. */
static void check_counts(const struct mb_batch *b, int32_t i, const struct mb_seq *q, int64_t pos)
{
    const struct mb_sample_row *r = &b->sample[i];
    int32_t in_prompt[VOCAB] = {0}, n_out[VOCAB] = {0}, n = 0;

    for (int64_t k = 0; k <= pos; k++) {
        if (k < q->n_prompt)
            in_prompt[q->ids[k]] = 1;
        else
            n_out[q->ids[k]]++;
    }
    for (int32_t id = 0; id < VOCAB; id++)
        n += in_prompt[id] || n_out[id] > 0;
    assert_int_equal(r->adj_end - r->adj_begin, n);
    for (int32_t k = r->adj_begin; k < r->adj_end; k++) {
        const struct mb_sample_adjust *a = &b->adj.v[k];
        assert_true(a->in_prompt == in_prompt[a->id] && a->n_out == n_out[a->id]);
    }
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
        if (g->counters.reuse.preempted == 0 && !s->o.share) {
            assert_false(decode && prefill);           /* those that wait for one row come first */
            before = decode == !prefill ? before : -1; /* adapters ascend in both halves */
            prefill |= !decode;
            assert_true(f->seq[i]->kind.adapter >= before);
            before = f->seq[i]->kind.adapter;
        }
        r = check_rows(g, f, i, r);
    }
    assert_int_equal(r, b->rows);
    for (int32_t i = 0; i < b->n_out; i++) {
        bool own = f->out_seq[i] == f->seq[b->row_seq[b->out[i].row]], rides = false;
        for (int32_t j = 0; j < f->n_rides; j++)
            rides |= f->ride[j] == f->out_seq[i];
        assert_true(i == 0 || b->out[i].row > b->out[i - 1].row || (s->o.share && b->out[i].row == b->out[i - 1].row));
        assert_true(own != rides);
        if (f->out_pos[i] >= 0 && mb_seq_draws_at(f->out_seq[i], f->out_pos[i]) && f->out_seq[i]->seen.counting)
            check_counts(b, i, f->out_seq[i], f->out_pos[i]);
    }
}

/* What the model says of the batch's rows with logits. */
static void compute(struct game *g, int64_t step)
{
    const struct mb_sched *s = &g->s;

    play_pages(g, &s->flight[(s->first_flight + s->n_flights) % s->o.depth]);
    for (int32_t i = 0; i < g->b.n_out; i++) {
        int32_t row = g->b.out[i].row, drawn = next_of(g->b.ids[row], g->b.pos[row]);
        int32_t then = next_of(drawn, g->b.pos[row] + 1);
        g->under_way[step % 8].drawn[i] = drawn;
        g->under_way[step % 8].guess[i] = draw(100) < g->right ? then : draw(20) == 0 ? -1 : (then + 1 + draw(VOCAB - 1)) % VOCAB;
        g->under_way[step % 8].row[i] = row;
    }
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
    if (g->counters.reuse.preempted == 0 && !g->s.o.share)
        assert_in_range(decode, 0, (g->s.n_running + g->s.o.depth - 1) / g->s.o.depth);
}

/* The results of the oldest flight. */
static enum mb_status land(struct game *g)
{
    static int32_t ints[(5 + MB_MAX_TOP) * 1024];
    static float floats[(1 + MB_MAX_TOP) * 1024];
    const struct mb_flight *f = mb_sched_oldest(&g->s);
    struct mb_found found;
    enum mb_status st = MB_OK;

    mb_found_over(ints, floats, 1024, &found);
    mb_found_reset(&found, f->rows);
    assert_true(f->rows == 0 || g->under_way[f->step % 8].step == f->step);
    for (int32_t i = 0; i < f->n_out; i++) {
        found.drawn[i] = g->under_way[f->step % 8].drawn[i];
        found.guess[i] = g->under_way[f->step % 8].guess[i];
        found.best[i] = found.drawn[i];
        found.bad[i] = i == g->bad_row;
        found.lp[i] = -(float)f->out_pos[i];
    }
    for (int32_t i = 0; i < f->seqs; i++)
        check_running(g, f->seq[i]);
    for (int32_t i = 0; i < f->n_rides; i++)
        check_running(g, f->ride[i]);
    for (int32_t i = 0; i < f->seqs && g->bad_guesses; i++) {
        int32_t last = f->seq_row[i] + f->seq_rows[i];
        for (int32_t r = last - f->seq[i]->way.drafts; r < last; r++)
            found.bad_layer[r] = 2;
        for (int32_t k = 0; k < f->n_out; k++)
            found.bad[k] |= f->out_seq[k] == f->seq[i] && g->under_way[f->step % 8].row[k] >= last - f->seq[i]->way.drafts;
    }
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
    mb_sched_timed(s, g->b.rows, 1e-3 * (1 + draw(9) + g->b.rows * (1 + draw(3))));
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
    mb_sched_forget(&g->s);
    for (int32_t p = 0; p < g->s.o.parts; p++)
        assert_int_equal(g->s.pages.n_free[p], g->s.o.kv_pages);
}

static struct game *new_game(void)
{
    struct game *g = calloc(1, sizeof *g);
    assert_non_null(g);
    return g;
}
#endif
