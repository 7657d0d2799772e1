/* What the ids of a sequence mean for its next draw: penalties, what the request forbids, its grammar. Also of rows whose
 * ids are guessed (seq.h, struct mb_seq_way): then of what follows if they are right. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/seq.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a sequence; use a smaller --max-num-seqs");
}

/* ---------------------------------------------------------------- penalties */

static int32_t seen_find(const struct mb_seq *q, int32_t id)
{
    int32_t lo = 0, hi = q->seen.n;
    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        if (q->seen.v[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static enum mb_status seen_add(struct mb_seq *q, int32_t id, bool prompt)
{
    int32_t i = seen_find(q, id);
    if (i == q->seen.n || q->seen.v[i].id != id) {
        if (q->seen.n == q->seen.cap) {
            int32_t cap = q->seen.cap ? 2 * q->seen.cap : 64;
            void *p = mb_grow(NULL, MB_MEM_REQUESTS, q->seen.v, (size_t)cap, sizeof *q->seen.v);
            if (p == NULL)
                return no_memory();
            q->seen.v = p;
            q->seen.cap = cap;
        }
        memmove(q->seen.v + i + 1, q->seen.v + i, sizeof *q->seen.v * (size_t)(q->seen.n - i));
        q->seen.v[i] = (struct mb_sample_adjust){.id = id};
        q->seen.n++;
    }
    if (prompt)
        q->seen.v[i].in_prompt = 1;
    else
        q->seen.v[i].n_out++;
    return MB_OK;
}

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The prompt once, sorted first so that insertion is cheap; then outputs up to `index`. */
static enum mb_status count_up_to(struct mb_seq *q, int64_t index)
{
    if (q->seen.v == NULL) {
        int32_t *sorted = malloc(sizeof(int32_t) * (size_t)(q->n_prompt + 1));
        if (sorted == NULL)
            return no_memory();
        memcpy(sorted, q->ids, sizeof(int32_t) * (size_t)q->n_prompt);
        qsort(sorted, (size_t)q->n_prompt, sizeof(int32_t), by_id);
        enum mb_status st = MB_OK;
        for (int64_t i = 0; st == MB_OK && i < q->n_prompt; i++)
            st = i > 0 && sorted[i] == sorted[i - 1] ? MB_OK : seen_add(q, sorted[i], true);
        free(sorted);
        MB_TRY(st);
    }
    while (q->seen.n_counted < index)
        MB_TRY(seen_add(q, q->ids[q->n_prompt + q->seen.n_counted++], false));
    return MB_OK;
}

static void seen_take(struct mb_seq *q, int32_t id)
{
    int32_t i = seen_find(q, id);

    if (--q->seen.v[i].n_out > 0 || q->seen.v[i].in_prompt)
        return;
    q->seen.n--;
    memmove(q->seen.v + i, q->seen.v + i + 1, sizeof *q->seen.v * (size_t)(q->seen.n - i));
}

void mb_seq_rewind(struct mb_seq *q, int64_t n)
{
    while (q->seen.n_counted > n)
        seen_take(q, q->ids[q->n_prompt + --q->seen.n_counted]);
    q->seen.guide.n_ahead = -1;
}

static enum mb_status adjust_put(struct mb_adjust_list *a, struct mb_sample_adjust v)
{
    if (a->n == a->cap) {
        int32_t cap = a->cap ? 2 * a->cap : 256;
        void *p = mb_grow(NULL, MB_MEM_OTHER, a->v, (size_t)cap, sizeof *a->v);
        if (p == NULL)
            return no_memory();
        a->v = p;
        a->cap = cap;
    }
    a->v[a->n++] = v;
    return MB_OK;
}

static bool holds(const int32_t *v, int32_t n, int32_t id)
{
    for (int32_t i = 0; i < n; i++) {
        if (v[i] == id)
            return true;
    }
    return false;
}

/* Whether output `index` would complete sequence w of the bad words. */
static bool completes(const struct mb_seq *q, const struct mb_bad_words *w, int32_t i, int64_t index)
{
    int32_t from = i > 0 ? w->end[i - 1] : 0, before = w->end[i] - from - 1;
    const int32_t *last = q->ids + q->n_prompt + index - before;
    return before <= index && memcmp(last, w->ids + from, sizeof *last * (size_t)before) == 0;
}

static enum mb_status not_allowed(const struct mb_seq *q, int64_t index)
{
    return mb_error(MB_CORRUPT, "request %s choice %d: output token %lld is none that its grammar allows; the journal is damaged",
                    q->job->req->id.data, q->choice, (long long)index);
}

/* The grammar behind `index` known outputs. */
static enum mb_status guide_to(struct mb_seq *q, int64_t index)
{
    struct mb_seq_guide *g = &q->seen.guide;
    bool ok = true;

    if (!g->begun || g->n > index) {
        MB_TRY(mb_guide_begin(q->job->guide, &g->at));
        g->begun = true;
        g->n = 0;
    }
    for (; ok && g->n < index; g->n++)
        MB_TRY(mb_guide_take(q->job->guide, &g->at, q->ids[q->n_prompt + g->n], &ok));
    return ok ? MB_OK : not_allowed(q, g->n - 1);
}

/* Behind `index` outputs, the last of which are guessed. *ok: whether it lets them be there. */
static enum mb_status guide_ahead(struct mb_seq *q, int64_t index, bool *ok)
{
    struct mb_seq_guide *g = &q->seen.guide;
    int64_t known = q->n_ids - q->n_prompt;

    *ok = true;
    if (g->n_ahead < known || g->n_ahead > index) {
        MB_TRY(guide_to(q, known));
        g->n_ahead = known;
        if (!mb_config_copy(&g->at, &g->ahead))
            return no_memory();
    }
    for (; *ok && g->n_ahead < index; g->n_ahead++)
        MB_TRY(mb_guide_take(q->job->guide, &g->ahead, q->ids[q->n_prompt + g->n_ahead], ok));
    if (!*ok)
        g->n_ahead = -1;
    return MB_OK;
}

enum mb_status mb_seq_allowed(struct mb_seq *q, int32_t *n)
{
    int64_t known = q->n_ids - q->n_prompt;
    bool ok = true;

    if (q->job->guide == NULL)
        return MB_OK;
    q->seen.guide.n_ahead = -1;
    for (int32_t i = 0; i < *n; i++) {
        MB_TRY(guide_ahead(q, known + i + 1, &ok));
        if (!ok)
            *n = i;
    }
    return MB_OK;
}

/* What the grammar lets follow output `index` - 1; without a grammar left alone. */
static enum mb_status guide_at(struct mb_seq *q, int64_t index, struct mb_guide_mask *mask)
{
    struct mb_seq_guide *g = &q->seen.guide;
    struct mb_guide *u = q->job->guide;
    bool ok;

    if (u == NULL)
        return MB_OK;
    if (index <= q->n_ids - q->n_prompt) {
        MB_TRY(guide_to(q, index));
        return mb_guide_next(u, &g->at, mask);
    }
    MB_TRY(guide_ahead(q, index, &ok));
    return ok ? mb_guide_next(u, &g->ahead, mask) : mb_error(MB_BUG, "a guess that its grammar refuses has a row");
}

/* The ids forbidden for output `index`, ascending: ends below min_tokens unless all that is left is to end, and what would
 * complete a bad word. */
static enum mb_status list_banned(const struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index, bool must_end,
                                  struct mb_adjust_list *adj, int32_t *n)
{
    const struct mb_request *r = q->job->req;
    const struct mb_bad_words *w = &r->sampling.bad;
    int32_t most = n_eos + r->n_stop_ids + w->n;
    *n = 0;
    if (most > adj->cap_banned) {
        int32_t *p = mb_grow(NULL, MB_MEM_OTHER, adj->banned, (size_t)most, sizeof *p);
        if (p == NULL)
            return no_memory();
        adj->banned = p;
        adj->cap_banned = most;
    }
    for (int32_t i = 0; i < n_eos && index < r->sampling.min_tokens && !must_end; i++)
        adj->banned[(*n)++] = eos[i];
    for (int32_t i = 0; i < r->n_stop_ids && index < r->sampling.min_tokens && !must_end; i++)
        adj->banned[(*n)++] = r->stop_ids[i];
    for (int32_t i = 0; i < w->n; i++) {
        if (completes(q, w, i, index))
            adj->banned[(*n)++] = w->ids[w->end[i] - 1];
    }
    if (*n > 1)
        qsort(adj->banned, (size_t)*n, sizeof *adj->banned, by_id);
    return MB_OK;
}

static void take_less(int32_t *id, int32_t candidate)
{
    *id = candidate < *id ? candidate : *id;
}

/* Merges the row's ascending sources: ids seen, bias, ids forbidden, and the only ids allowed. */
static enum mb_status merge_adjust(struct mb_seq *q, const int32_t *ban, int32_t n_ban, struct mb_adjust_list *adj)
{
    const struct mb_sampling *s = &q->job->req->sampling;
    int32_t i = 0, j = 0, k = 0, a = 0, n_seen = q->seen.counting ? q->seen.n : 0;

    for (;;) {
        int32_t id = INT32_MAX;
        take_less(&id, i < n_seen ? q->seen.v[i].id : id);
        take_less(&id, j < s->n_bias ? s->bias[j].id : id);
        take_less(&id, k < n_ban ? ban[k] : id);
        take_less(&id, a < s->n_allowed ? s->allowed[a] : id);
        if (id == INT32_MAX)
            return MB_OK;
        struct mb_sample_adjust v = {.id = id};
        bool allowed = s->allowed == NULL || (a < s->n_allowed && s->allowed[a] == id);
        if (i < n_seen && q->seen.v[i].id == id)
            v = q->seen.v[i++];
        if (j < s->n_bias && s->bias[j].id == id)
            v.bias = s->bias[j++].bias;
        if (k < n_ban && ban[k] == id)
            v.bias = -INFINITY;
        while (k < n_ban && ban[k] == id)
            k++;
        a += s->allowed != NULL && allowed;
        if (allowed)
            MB_TRY(adjust_put(adj, v));
    }
}

enum mb_status mb_seq_sampling(struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index,
                               struct mb_adjust_list *adj, struct mb_mask_list *masks, struct mb_sample_row *out)
{
    const struct mb_sampling *s = &q->job->req->sampling;
    int32_t begin = adj->n, n_ban = 0, slot = -1;
    struct mb_guide_mask mask = {0};

    MB_TRY(guide_at(q, index, &mask));
    if (mask.bits != NULL)
        MB_TRY(mb_masks_put(masks, &mask, &slot));
    if (q->seen.counting)
        MB_TRY(count_up_to(q, index));
    if (index < s->min_tokens || s->bad.n > 0)
        MB_TRY(list_banned(q, eos, n_eos, index, mask.ends && mask.tokens == 0, adj, &n_ban));
    if (q->seen.counting || s->n_bias > 0 || n_ban > 0 || s->allowed != NULL)
        MB_TRY(merge_adjust(q, adj->banned, n_ban, adj));
    *out = (struct mb_sample_row){.temperature = s->temperature, .top_k = s->top_k, .top_p = s->top_p, .min_p = s->min_p,
                                  .repetition = s->repetition, .frequency = s->frequency, .presence = s->presence,
                                  .adj_begin = begin, .adj_end = adj->n, .key = q->key, .position = q->n_prompt + index,
                                  .only = s->allowed != NULL, .mask = slot + 1};
    return MB_OK;
}

static bool lets_draw(const struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index, bool must_end, int32_t id)
{
    const struct mb_request *r = q->job->req;
    const struct mb_sampling *s = &r->sampling;

    if (index < s->min_tokens && !must_end && (holds(eos, n_eos, id) || holds(r->stop_ids, r->n_stop_ids, id)))
        return false;
    for (int32_t i = 0; i < s->bad.n; i++) {
        if (s->bad.ids[s->bad.end[i] - 1] == id && completes(q, &s->bad, i, index))
            return false;
    }
    return s->allowed == NULL || bsearch(&id, s->allowed, (size_t)s->n_allowed, sizeof id, by_id) != NULL;
}

enum mb_status mb_seq_may_draw(struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index, int32_t id, bool *may)
{
    struct mb_guide_mask mask = {0};

    MB_TRY(guide_at(q, index, &mask));
    *may = lets_draw(q, eos, n_eos, index, mask.ends && mask.tokens == 0, id) &&
           (mask.bits == NULL || (mask.bits[id / 32] >> id % 32 & 1));
    return MB_OK;
}

enum mb_status mb_seq_push(struct mb_seq *q, int32_t id)
{
    if (q->n_ids == q->cap)
        return mb_error(MB_BUG, "a sequence outgrew its max_tokens");
    q->ids[q->n_ids++] = id;
    return MB_OK;
}
