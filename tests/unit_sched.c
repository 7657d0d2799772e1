/* The scheduler without ranks, weights or a device. */
#include "sched_game.h"

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

/* A sequence that needs more pages than there are is refused; one that has to wait keeps its turn. Pages come as
 * rows do. */
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
    assert_int_equal(mb_sched_pages_used(&g->s), 1); /* of 40 rows */
    play(g);
    assert_int_equal(g->errors, 1);
    assert_int_equal(g->counters.reuse.preempted, 0);
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
                       .endless = draw(3) == 0,
                       .penalty = draw(4) == 0,
                       .error = draw(9) == 0,
                       .score = draw(7) == 0};
    if (draw(2) == 0)
        w->adapter = adapters[draw(2)];
    if (w->score) {
        w->max_tokens = 0;
        w->choices = 1;
        w->score_from = draw(2) == 0 ? 1 + draw((int)w->n_prompt) : 0;
    }
    if (draw(2) == 0) {
        w->stem = (uint64_t)draw(3);
        w->common = draw(3) == 0 ? w->n_prompt : draw((int)w->n_prompt + 1);
    }
}

/* Guesses: none, what the text repeats, what the module says, right now and then; as many as pay, or always so many. */
static void draw_guesses(struct game *g, struct mb_sched_options *o)
{
    round_of = draw(2) == 0 ? 1 + draw(6) : 0;
    o->drafts = (struct mb_drafting){.how = (enum mb_draft_how)draw(3), .most = 1 + draw(6), .always = draw(2) == 0, .extra = 0.1};
    g->right = draw(101);
}

/* Drawn requests under drawn limits, pipelines and sequence groups: every row is right, and nothing is left.
 */
static void many_games(void **state)
{
    (void)state;
    state_of_draw = 2026;
    const char *rounds = getenv("MB_SCHED_ROUNDS");
    int64_t cached = 0, preempted = 0, recomputed = 0, made = 0, right = 0;
    for (int round = 0, n = rounds != NULL ? atoi(rounds) : 600; round < n; round++) {
        struct game *g = new_game();
        struct mb_sched_options o = usual();
        o.max_seqs = 1 + draw(9);
        o.max_rows = 1 + draw(60);
        o.kv_pages = 4 + draw(12);
        o.parts = 1 << draw(3);
        o.depth = 1 + draw(3);
        o.mtp = draw(3) == 0;
        o.share = !o.mtp && draw(3) > 0;
        g->wait = draw(3) == 0 ? 2 + draw(3) : 0;
        g->fail_every = draw(2) == 0 ? 2 + draw(5) : 0;
        draw_guesses(g, &o);
        g->n = 1 + draw(20);
        for (int i = 0; i < g->n; i++)
            draw_wish(&g->wish[i]);
        for (int i = 0; i < g->n && round % 2 == 0; i++)
            g->wish[i].max_tokens *= g->wish[i].score ? 1 : 3;
        open_game(g, &o);
        g->s.allowed = round % 2 == 0 ? 1 << 20 : 0; /* others were short: too many begin */
        play(g);
        cached += g->counters.reuse.cached;
        preempted += g->counters.reuse.preempted;
        recomputed += g->counters.reuse.again;
        made += g->counters.reuse.drafts.made;
        right += g->counters.reuse.drafts.right;
        close_game(g);
        free(g);
    }
    round_of = 0;
    assert_true(cached > 1000 && preempted > 100 && recomputed > 1000);
    assert_true(right > 1000 && made - right > 1000);
}

/* One request alone: its steps are counted. */
static int64_t steps_alone(int32_t tokens, int32_t right, bool bad_guesses, struct mb_drafting how, struct mb_draft_counts *counts)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();

    o.drafts = how;
    g->right = right;
    g->bad_guesses = bad_guesses;
    o.max_pages = o.kv_pages = 12;
    g->wish[0] = (struct wish){.n_prompt = 20, .max_tokens = tokens, .choices = 1, .endless = true, .penalty = true};
    g->n = 1;
    open_game(g, &o);
    play(g);
    int64_t steps = g->step;
    assert_int_equal(g->errors, 0);
    assert_int_equal(g->counters.output_tokens, tokens);
    assert_int_equal(g->counters.rows, 20 + tokens - 1 + g->counters.reuse.drafts.made - g->counters.reuse.drafts.right);
    *counts = g->counters.reuse.drafts;
    close_game(g);
    free(g);
    return steps;
}

/* Right guesses are rows that need no step of their own; what wrong ones have found counts for nothing. */
static void guesses(void **state)
{
    const struct mb_drafting none = {0}, module = {.how = MB_DRAFT_MTP, .most = 1, .always = true},
                             text = {.how = MB_DRAFT_NGRAM, .most = 4, .always = true};
    struct mb_draft_counts n;

    (void)state;
    assert_int_equal(steps_alone(101, 0, false, none, &n), 101);
    assert_int_equal(steps_alone(101, 100, false, module, &n), 1 + 50); /* two tokens a step */
    assert_true(n.made == 50 && n.right == 50);
    assert_int_equal(steps_alone(101, 0, true, module, &n), 101);
    assert_true(n.made > 90 && n.right == 0);
    round_of = 1;
    assert_in_range(steps_alone(501, 0, false, text, &n), 1 + 500 / 5, 501 / 2.5); /* once the text has come round */
    round_of = 0;
}

/* Guesses that are never right cost less and less. */
static void wrong_guesses_end(void **state)
{
    const struct mb_drafting module = {.how = MB_DRAFT_MTP, .most = 1, .extra = 0.1}, text = {.how = MB_DRAFT_NGRAM, .most = 4};
    struct mb_draft_counts n;

    (void)state;
    (void)steps_alone(101, 0, false, module, &n);
    assert_in_range(n.made, 60, 70);
    round_of = 49; /* two ids often come again, and are followed by others */
    (void)steps_alone(101, 0, false, text, &n);
    assert_in_range(n.made, 0, 25);
    round_of = 0;
}

/* 2,000 requests of mixed lengths in a pool that holds a tenth of their pages. stops: they end anywhere before their
 * max_tokens. The pages are in use as long as there are requests, little is computed again, and half a page of a
 * sequence is not filled. */
static void small_pool(bool stops)
{
    struct game *g = new_game();
    struct mb_sched_options o = usual();
    int64_t all = 0, steps = 0;
    double used = 0, waste = 0;

    state_of_draw = 5;
    g->n = 2000;
    for (int i = 0; i < g->n; i++) {
        g->wish[i] = (struct wish){
            .n_prompt = 20 + draw(300), .max_tokens = 20 + draw(400), .choices = 1, .endless = true};
        g->wish[i].stop_at = stops ? 1 + draw((int)g->wish[i].max_tokens) : 0;
        int64_t out = stops ? g->wish[i].stop_at : g->wish[i].max_tokens;
        all += (g->wish[i].n_prompt + out - 1 + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
    }
    o.max_seqs = 500;
    o.max_rows = 1000;
    o.max_pages = 16;
    o.kv_pages = all / 10;
    assert_in_range(o.kv_pages, 100, PAGES);
    open_game(g, &o);
    while (g->begun < g->n) {
        assert_int_equal(one_step(g), MB_OK);
        if (steps == 0 && g->s.held == NULL)
            continue; /* the first prompts: pages are not what anybody waits for */
        steps++;
        used += (double)mb_sched_pages_used(&g->s) / (double)o.kv_pages;
        int64_t rows = 0;
        for (int32_t i = 0; i < g->s.n_running; i++)
            rows += g->s.running[i]->n_sched;
        waste += (double)(mb_sched_pages_used(&g->s) * MB_KV_BLOCK - rows) / g->s.n_running;
    }
    play(g);
    double again = (double)g->counters.reuse.again / (double)g->counters.rows;
    fprintf(stderr, "pages in use %.3f, not filled %.1f a sequence, computed again %.4f, gave way %ld\n", used / (double)steps,
           waste / (double)steps, again, (long)g->counters.reuse.preempted);
    assert_true(used / (double)steps >= 0.9);
    assert_true(waste / (double)steps <= MB_KV_BLOCK / 2 + 1);
    assert_true(again <= 0.03);
    close_game(g);
    free(g);
}

static void small_pools(void **state)
{
    (void)state;
    small_pool(false);
    small_pool(true);
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
        cmocka_unit_test(guesses),
        cmocka_unit_test(wrong_guesses_end),
        cmocka_unit_test(many_games),
        cmocka_unit_test(small_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
