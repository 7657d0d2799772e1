/* Header block, progress line, result block. */
#include "app/report.h"
#include "app/nodes.h"
#include "plan/alltoall.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TERMINAL_EVERY 0.5
#define LINE_EVERY 60.0
#define SMOOTHING 20.0 /* seconds over which tokens/s is averaged */

/* --- text --- */
char *mb_text_bytes(int64_t bytes, char buf[MB_TEXT_CAP])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    int u = -1;

    for (; v >= 1023.995 && u < 5; u++)
        v /= 1024;
    if (u < 0)
        snprintf(buf, MB_TEXT_CAP, "%" PRId64 " B", bytes);
    else
        snprintf(buf, MB_TEXT_CAP, "%.2f %s", v, units[u]);
    return buf;
}

char *mb_text_duration(double seconds, char buf[MB_TEXT_CAP])
{
    if (!(seconds >= 0) || seconds > 1e12) {
        snprintf(buf, MB_TEXT_CAP, "-");
        return buf;
    }
    long long s = (long long)(seconds + 0.5), days = s / 86400;

    if (seconds < 59.95)
        snprintf(buf, MB_TEXT_CAP, "%.1f s", seconds);
    else if (days > 0)
        snprintf(buf, MB_TEXT_CAP, "%lld d %02lld:%02lld:%02lld", days, s / 3600 % 24, s / 60 % 60, s % 60);
    else
        snprintf(buf, MB_TEXT_CAP, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return buf;
}

char *mb_text_rate(double v, char buf[MB_TEXT_CAP])
{
    static const char letters[] = "kMBT";
    int u = -1;

    for (; v >= 999.5 && u < 3; u++)
        v /= 1000;
    if (u < 0)
        snprintf(buf, MB_TEXT_CAP, v < 10 ? "%.1f" : "%.0f", v);
    else
        snprintf(buf, MB_TEXT_CAP, "%.2f%c", v, letters[u]);
    return buf;
}

static void put_stderr(void *arg, const char *text, size_t n)
{
    (void)arg;
    ssize_t done = write(STDERR_FILENO, text, n);
    (void)done; /* a closed stderr must not stop a job */
}

static void put(struct mb_report *r, const char *text)
{
    r->put(r->arg, text, strlen(text));
}

/* One "key : value" line. */
__attribute__((format(printf, 3, 4))) static void row(struct mb_report *r, const char *key, const char *fmt,
                                                      ...)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%-10s: ", key);
    va_list ap;

    va_start(ap, fmt);
    n += vsnprintf(text + n, sizeof text - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n] = '\n';
    text[n + 1] = '\0';
    put(r, text);
}

void mb_report_init(struct mb_report *r, double now, int64_t done_before)
{
    struct winsize w = {0};

    *r = (struct mb_report){.put = put_stderr, .start = now, .last = now, .done_before = done_before};
    r->terminal = isatty(STDERR_FILENO) && ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0;
    r->columns = w.ws_col > 0 ? w.ws_col : 80;
}

/* --- header --- */
static void range_of(const int32_t *v, int32_t n, int32_t *lo, int32_t *hi)
{
    *lo = *hi = v[0];
    for (int32_t i = 1; i < n; i++) {
        *lo = v[i] < *lo ? v[i] : *lo;
        *hi = v[i] > *hi ? v[i] : *hi;
    }
}

/* The nodes by kind, a row each. */
static void nodes_rows(struct mb_report *r, const struct mb_topo *t)
{
    char *text = mb_nodes_text(t), *next = text, *line;
    const char *by = !t->threads_asked && t->local[0].threads_asked > 0 ? " (threads by OMP_NUM_THREADS)" : "";

    for (bool first = true; (line = strsep(&next, "\n")) != NULL; first = false)
        row(r, first ? "nodes" : "", "%s%s", line, by);
    free(text);
}

static void machine_rows(struct mb_report *r, const struct mb_report_head *h)
{
    const struct mb_topo *t = h->topo;
    char threads[32];
    int32_t lo, hi;

    range_of(t->threads, t->ranks, &lo, &hi);
    snprintf(threads, sizeof threads, lo == hi ? "%d" : "%d-%d", (int)lo, (int)hi);
    row(r, "machine", "%d rank%s x %s thread%s on %d node%s, %s", (int)t->ranks, t->ranks == 1 ? "" : "s",
        threads, hi == 1 ? "" : "s", (int)t->nodes, t->nodes == 1 ? "" : "s", t->local[0].cpu_model);
    nodes_rows(r, t);
    row(r, "device", "%s", h->device);
}

static void model_row(struct mb_report *r, const struct mb_model *m, const char *dir)
{
    char experts[64] = "dense", all[MB_TEXT_CAP], active[MB_TEXT_CAP];

    if (m->router.experts > 0)
        snprintf(experts, sizeof experts, "%d of %d experts a token", (int)m->router.k,
                 (int)m->router.experts);
    row(r, "model", "%s (%s, %d layers, %s, %s parameters, %s active)", dir, m->arch, (int)m->layers, experts,
        mb_text_rate((double)m->params_total, all), mb_text_rate((double)m->params_active, active));
}

static void memory_row(struct mb_report *r, const struct mb_plan *p)
{
    const struct mb_budget *b = &p->budget;
    char t[MB_TEXT_CAP], w[MB_TEXT_CAP], e[MB_TEXT_CAP], k[MB_TEXT_CAP], a[MB_TEXT_CAP], x[MB_TEXT_CAP], states[64] = "";

    if (b->state > 0)
        snprintf(states, sizeof states, "; %s are states of %d sequences", mb_text_bytes(b->state, k), (int)p->max_num_seqs);

    row(r, "memory",
        "%s planned on the fullest rank: weights %s, experts %s, KV %s (%" PRId64 " pages%s), activations %s, "
        "exchange %s",
        mb_text_bytes(b->total, t), mb_text_bytes(b->weights, w), mb_text_bytes(b->experts, e),
        mb_text_bytes(b->kv, k), p->kv_pages, states, mb_text_bytes(b->activations + b->staging, a),
        mb_text_bytes(b->exchange, x));
}

static void tokens_row(struct mb_report *r, const struct mb_model *m)
{
    char ends[16 * MB_MAX_EOS] = "none", bos[16] = "none";

    for (int32_t i = 0, n = 0; i < m->n_eos; i++)
        n += snprintf(ends + n, sizeof ends - (size_t)n, "%s%d", i > 0 ? " " : "", m->eos[i]);
    if (m->bos >= 0)
        snprintf(bos, sizeof bos, "%d", m->bos);
    row(r, "tokens", "vocabulary %d, BOS %s, ids that end a text: %s", (int)m->vocab, bos, ends);
}

void mb_report_header(struct mb_report *r, const struct mb_report_head *h)
{
    const struct mb_plan *p = h->plan;
    const struct mb_layout *l = &p->layout;
    char size[MB_TEXT_CAP];

    row(r, "moebatch", "%s", h->version);
    model_row(r, h->model, h->conf->model);
    tokens_row(r, h->model);
    machine_rows(r, h);
    row(r, "layout",
        "DP replicas %d x stages %d x (tp %d x sp %d x adp %d | ep %d x etp %d x edp %d), all-to-all %s%s%s",
        (int)l->dp, (int)l->pp, (int)l->tp, (int)l->sp, (int)l->adp, (int)l->ep, (int)l->etp, (int)l->edp,
        mb_alltoall_rows[p->alltoall].name, l->lane_scope ? ", experts of a DP replica on all its ranks" : "",
        l->attn > 0 ? ", attention and experts on ranks of their own" : "");
    if (h->chosen != NULL)
        row(r, "chosen", "%s", h->chosen);
    row(r, "numbers", "%s", h->path_name);
    if (h->weights != NULL)
        row(r, "weights", "%s", h->weights);
    if (h->defaults != NULL)
        row(r, "defaults", "%s", h->defaults);
    memory_row(r, p);
    if (h->requests >= 0)
        row(r, "input", "%s (%" PRId64 " requests)", h->conf->input, h->requests);
    else
        row(r, "input", "%s", h->conf->input);
    if (h->save_bytes > 0)
        row(r, "output", "%s (about %s)", h->conf->output, mb_text_bytes(h->save_bytes, size));
    else
        row(r, "output", "%s", h->conf->output);
    if (h->run > 1)
        row(r, "resumed", "run %d; %" PRId64 " requests were done before", (int)h->run, r->done_before);
}

/* --- progress --- */
double mb_report_eta(const struct mb_report *r, double now, const struct mb_progress *p)
{
    double elapsed = now - r->start, done = (double)(p->done - r->done_before);
    double left = (double)(p->total - p->done);

    if (p->total < 0 || elapsed <= 0 || done <= 0)
        return p->total >= 0 && left <= 0 ? 0 : -1;
    if (p->tokens <= 0 || p->tokens_done <= 0)
        return left / done * elapsed;
    /* Requests still to come are taken to be as long as those done; what those under way have computed
     * already counts. */
    double all = (double)p->tokens_done / done * (done + left), rest = all - (double)p->tokens;
    return rest <= 0 ? 0 : rest / ((double)p->tokens / elapsed);
}

/* Exponential mean of tokens/s; the first sample counts from the start. */
void mb_report_sample(struct mb_report *r, double now, int64_t tokens)
{
    double since = r->seen > 0 ? r->seen : r->start, dt = now - since;

    if (dt <= 0)
        return;
    double inst = (double)(tokens - r->last_tokens) / dt, keep = r->seen > 0 ? exp(-dt / SMOOTHING) : 0;
    r->rate = keep * r->rate + (1 - keep) * inst;
    r->seen = now;
    r->last_tokens = tokens;
}

/* Everything after the time stamp. */
static void progress_text(const struct mb_report *r, double now, const struct mb_progress *p, char *buf,
                          size_t cap)
{
    char rate[MB_TEXT_CAP], eta[MB_TEXT_CAP], errors[48] = "", worst[64] = "", total[48] = "";

    if (p->total >= 0)
        snprintf(total, sizeof total, "/%" PRId64 " (%.1f %%)", p->total,
                 p->total > 0 ? 100.0 * (double)p->done / (double)p->total : 100.0);
    if (p->errors > 0)
        snprintf(errors, sizeof errors, ", %" PRId64 " errors", p->errors);
    if (p->imbalance > 0)
        snprintf(worst, sizeof worst, ", imbalance %.2f (rank %d)", p->imbalance, (int)p->worst_rank);
    snprintf(buf, cap, "%" PRId64 "%s requests%s, %d under way, %s tokens/s, ETA %s%s", p->done, total,
             errors, (int)p->running, mb_text_rate(r->rate, rate),
             mb_text_duration(mb_report_eta(r, now, p), eta), worst);
}

static bool is_time(const struct mb_report *r, double now)
{
    return now - r->last >= (r->terminal ? TERMINAL_EVERY : LINE_EVERY);
}

static void say(struct mb_report *r, double now, const char *text)
{
    char line[512], at[MB_TEXT_CAP];

    mb_text_duration(now - r->start, at);
    if (r->terminal) /* the cursor goes back to the start, so that a message overwrites the line */
        snprintf(line, sizeof line, "\r\033[K%.*s\r", (int)r->columns - 1, text);
    else
        snprintf(line, sizeof line, "%s  %s\n", at, text);
    put(r, line);
    r->open = r->terminal;
    r->last = now;
}

bool mb_report_progress(struct mb_report *r, double now, const struct mb_progress *p)
{
    char text[400];

    if (!is_time(r, now))
        return false;
    mb_report_sample(r, now, p->tokens);
    progress_text(r, now, p, text, sizeof text);
    say(r, now, text);
    return true;
}

bool mb_report_assembly(struct mb_report *r, double now, const char *what, double part)
{
    char text[160];

    if (!is_time(r, now))
        return false;
    snprintf(text, sizeof text, "assembling: %s %.0f %%", what, 100 * part);
    say(r, now, text);
    return true;
}

/* --- result --- */
static int64_t total_of(const int64_t v[MB_LINK_COUNT])
{
    int64_t sum = 0;
    for (int i = 0; i < MB_LINK_COUNT; i++)
        sum += v[i];
    return sum;
}

static void traffic_row(struct mb_report *r, const struct mb_counters *c)
{
    static const char *const names[MB_LINK_COUNT] = {"in the rank", "shared memory", "MPI in the node",
                                                     "between nodes"};
    char text[512] = "", b[MB_TEXT_CAP];
    int n = 0;

    for (int i = 0; i < MB_LINK_COUNT; i++) {
        int64_t bytes = c->dispatch_bytes[i] + c->combine_bytes[i],
                messages = c->dispatch_messages[i] + c->combine_messages[i];
        if (bytes > 0)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%s %s in %" PRId64 " messages", n ? ", " : "",
                          mb_text_bytes(bytes, b), names[i], messages);
    }
    if (total_of(c->dispatch_bytes) + total_of(c->combine_bytes) > 0)
        row(r, "exchanged", "%s", text);
}

/* Idle ticks counted, beside those that m steps need in any case to fill and drain S stages. */
static void pipeline_row(struct mb_report *r, const struct mb_report_end *e)
{
    const struct mb_counters *c = &e->sum;
    int64_t fill = (int64_t)(e->stages - 1) * e->leaders, m = c->pipeline_steps, ticks = c->pipeline_ticks;

    row(r, "pipeline",
        "a stage idled in %" PRId64 " of %" PRId64 " ticks (%.1f %%; (S-1)/(m+S-1) is %.1f %%), a rank waited "
        "%.1f s for rows of the stage before",
        ticks - m, ticks, ticks > 0 ? 100.0 * (double)(ticks - m) / (double)ticks : 0.0,
        m > 0 ? 100.0 * (double)fill / (double)(m + fill) : 0.0, c->seconds_stage_wait / (e->ranks > 0 ? e->ranks : 1));
}

/* ---- where the time went */
static const char *const spent_names[MB_SPENT_COUNT] = {
    [MB_TIME_REST] = "rest", [MB_TIME_ATTENTION] = "attention", [MB_TIME_EXPERTS] = "experts", [MB_TIME_HEAD] = "head",
    [MB_TIME_EXCHANGE] = "exchange", [MB_TIME_WAIT] = "waiting", [MB_SPENT_LOAD] = "load", [MB_SPENT_ASSEMBLY] = "assembly"};

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line of the table: mean in parts of a thousand of all, least, median and most of the ranks. v: scratch, [ranks]. */
static void spent_row(struct mb_report *r, const struct mb_report_end *e, int what, int thousandths, double *v)
{
    char lo[MB_TEXT_CAP], mid[MB_TEXT_CAP], hi[MB_TEXT_CAP];
    int32_t n = e->ranks;

    for (int32_t i = 0; i < n; i++)
        v[i] = e->spent[i][what];
    qsort(v, (size_t)n, sizeof *v, by_size);
    mb_text_duration(v[0], lo);
    mb_text_duration(n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, mid);
    mb_text_duration(v[n - 1], hi);
    if (n == 1)
        row(r, "", "%-10s %5d.%d %%  %s", spent_names[what], thousandths / 10, thousandths % 10, mid);
    else
        row(r, "", "%-10s %5d.%d %%  %s, %s, %s", spent_names[what], thousandths / 10, thousandths % 10, lo, mid, hi);
}

void mb_report_shares(const double *seconds, int n, int *thousandths)
{
    double sum = 0, rest[64];
    int given = 0;

    for (int i = 0; i < n; i++)
        sum += seconds[i] > 0 ? seconds[i] : 0;
    for (int i = 0; i < n && i < 64; i++) {
        double exact = sum > 0 && seconds[i] > 0 ? 1000 * seconds[i] / sum : 0;
        thousandths[i] = (int)exact;
        rest[i] = exact - thousandths[i];
        given += thousandths[i];
    }
    for (; given < 1000 && sum > 0; given++) { /* the largest remainders are rounded up */
        int best = 0;
        for (int i = 1; i < n; i++)
            best = rest[i] > rest[best] ? i : best;
        rest[best] -= 1;
        thousandths[best]++;
    }
}

/* A rank's time is the same whole for all; the shares are those of the mean. */
static void spent_rows(struct mb_report *r, double seconds, const struct mb_report_end *e)
{
    double mean[MB_SPENT_COUNT] = {0}, *v = e->spent != NULL ? malloc(sizeof *v * (size_t)e->ranks) : NULL;
    int share[MB_SPENT_COUNT];

    if (v == NULL || seconds <= 0) {
        free(v);
        return;
    }
    for (int32_t i = 0; i < e->ranks; i++) {
        for (int w = 0; w < MB_SPENT_COUNT; w++)
            mean[w] += e->spent[i][w] / e->ranks;
    }
    mb_report_shares(mean, MB_SPENT_COUNT, share);
    row(r, "", "of a rank's time%s", e->ranks > 1 ? ": mean share; least, median, most of the ranks" : "");
    for (int w = 1; w < MB_SPENT_COUNT; w++)
        spent_row(r, e, w, share[w], v);
    spent_row(r, e, MB_TIME_REST, share[MB_TIME_REST], v);
    free(v);
}

/* Tokens computed, shared, guessed. */
static void token_rows(struct mb_report *r, const struct mb_counters *c)
{
    const struct mb_reuse_counts *u = &c->reuse;
    const struct mb_draft_counts *d = &c->reuse.drafts;
    int64_t turns = c->output_tokens - d->right, wrong = d->made - d->right;

    row(r, "tokens", "%" PRId64 " computed, %" PRId64 " of prompts of finished requests, %" PRId64 " generated", c->rows,
        c->prompt_tokens, c->output_tokens);
    if (u->cached > 0 || u->preempted > 0)
        row(r, "shared", "%" PRId64 " tokens asked for, %" PRId64 " of them from pages of others; %" PRId64
            " sequences gave way, %" PRId64 " tokens computed again",
            c->rows - u->again - wrong + u->cached, u->cached, u->preempted, u->again);
    if (d->made > 0)
        row(r, "guessed", "%" PRId64 " tokens, %" PRId64 " of them right (%.1f %%): %.2f generated in a step of a sequence",
            d->made, d->right, 100.0 * (double)d->right / (double)d->made,
            turns > 0 ? (double)c->output_tokens / (double)turns : 0.0);
}

static void speed_rows(struct mb_report *r, double seconds, const struct mb_report_end *e)
{
    char a[MB_TEXT_CAP], b[MB_TEXT_CAP], c[MB_TEXT_CAP], d[MB_TEXT_CAP];
    double all = (double)e->sum.rows, out = (double)e->sum.output_tokens;
    double whole = seconds > 0 ? seconds : 1, run = seconds - e->load_seconds - e->assembly_seconds;

    run = run > 1e-3 ? run : 1e-3;
    token_rows(r, &e->sum);
    row(r, "speed", "%s tokens/s, %s generated/s; without load and assembly %s and %s", mb_text_rate(all / whole, a),
        mb_text_rate(out / whole, b), mb_text_rate(all / run, c), mb_text_rate(out / run, d));
}

static void time_rows(struct mb_report *r, double seconds, const struct mb_report_end *e)
{
    char whole[MB_TEXT_CAP];
    const struct mb_counters *c = &e->sum;
    double per = e->ranks > 0 ? 1.0 / e->ranks : 1;

    row(r, "time", "%s", mb_text_duration(seconds, whole));
    spent_rows(r, seconds, e);
    if (e->stages > 1)
        pipeline_row(r, e);
    if (e->leaders > e->lanes)
        row(r, "tail", "an attention group had nothing left for %.1f s (%.1f %%) at the end, when others still had requests",
            c->seconds_done / e->leaders, c->seconds_run > 0 ? 100 * c->seconds_done / e->leaders / (c->seconds_run * per) : 0.0);
    if (e->lanes > 1)
        row(r, "DP", "a rank idled %.1f s (%.1f %%) at the end, when the other DP replicas still had requests",
            c->seconds_tail * per, c->seconds_run > 0 ? 100 * c->seconds_tail / c->seconds_run : 0.0);
    speed_rows(r, seconds, e);
}

/* What ZeRO-inference fetched and kept. */
static void cache_row(struct mb_report *r, const struct mb_counters *c)
{
    int64_t fetched = c->fetch.peer + c->fetch.file, needed = c->fetch.hits + fetched;
    char b[MB_TEXT_CAP], read[64] = "";

    if (needed == 0)
        return;
    if (c->fetch.announced > 0)
        snprintf(read, sizeof read, " (%" PRId64 " announced)", c->fetch.announced);
    row(r, "experts",
        "%.1f %% of %" PRId64 " were there when needed; %" PRId64 " came from other ranks, %" PRId64
        " from files%s, %s; %" PRId64 " rows stayed where a copy came",
        100.0 * (double)c->fetch.hits / (double)needed, needed, c->fetch.peer, c->fetch.file, read,
        mb_text_bytes(c->fetch.bytes, b), c->fetch.rows_kept);
}

void mb_report_result(struct mb_report *r, double now, const struct mb_report_end *e)
{
    const struct mb_progress *p = &e->progress;
    char peak[MB_TEXT_CAP], grown[MB_TEXT_CAP];

    if (r->open)
        put(r, "\r\033[K");
    r->open = false;
    if (p->total >= 0)
        row(r, "requests", "%" PRId64 " of %" PRId64 " done, %" PRId64 " error rows", p->done, p->total,
            p->errors);
    else
        row(r, "requests", "%" PRId64 " done, %" PRId64 " error rows", p->done, p->errors);
    if (e->all_bad != NULL)
        row(r, "errors", "every row is an error; the first: %s", e->all_bad);
    time_rows(r, now - r->start, e);
    traffic_row(r, &e->sum);
    cache_row(r, &e->sum);
    if (p->imbalance > 0 && e->ranks > 1)
        row(r, "balance", "the most loaded rank (%d) served %.2f times the mean", (int)p->worst_rank,
            p->imbalance);
    row(r, "memory", "%s at most on a rank; resident memory grew by %s", mb_text_bytes(e->peak_bytes, peak),
        mb_text_bytes(e->grown_bytes, grown));
    if (e->status == MB_OK)
        row(r, "results", "%s", e->output);
    else
        row(r, "stopped", "%s; what was done is kept in %s.d", mb_status_name(e->status), e->output);
    if (e->status != MB_OK && e->resume != NULL)
        row(r, "go on with", "%s", e->resume);
}

double mb_report_imbalance(const int64_t *v, int32_t n, int32_t *worst)
{
    double sum = 0;

    *worst = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += (double)v[i];
        if (v[i] > v[*worst])
            *worst = i;
    }
    return sum > 0 ? (double)v[*worst] * n / sum : 0;
}
