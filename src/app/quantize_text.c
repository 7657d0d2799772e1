#include "app/quantize_text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "app/signals.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/results.h"

#define SAID_MAX ((uint64_t)1 << 24)
#define ROWS 16 /* of logits at a time */

/* ---------------------------------------------------------------- two runs */
/* What it says goes to a file: most of it is about a job that nobody asked for. */
static _Noreturn void child(const char *model, const char *calibration, const char *results, const char *says,
                            pid_t parent)
{
    int fd = open(says, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

    if (fd >= 0)
        (void)dup2(fd, STDERR_FILENO);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent)
        execl("/proc/self/exe", "moebatch", "score", "--model", model, "--input", calibration, "--output",
              results, "--dtype", "bf16", "--save-logits=all", "--max-tokens", "1", (char *)NULL);
    _exit(mb_status_exit(MB_IO));
}

/* Asks the child to end where this process was. */
static enum mb_status wait_for(pid_t pid, int *how)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    bool asked = false;

    for (;;) {
        pid_t got = waitpid(pid, how, WNOHANG);
        if (got == pid)
            return MB_OK;
        if (got < 0 && errno != EINTR)
            return mb_error(MB_IO, "the process that computes the calibration is gone: %s", strerror(errno));
        if (*mb_signals_stop() != 0 && !asked) {
            kill(pid, SIGTERM);
            asked = true;
        }
        nanosleep(&moment, NULL);
    }
}

/* The end of what a run said that failed. */
static void repeat(const char *says)
{
    struct mb_bytes b = {0};

    if (mb_path_exists(says) && mb_file_read(says, SAID_MAX, MB_IO, &b) == MB_OK && b.len > 0)
        (void)fwrite(b.data, 1, b.len, stderr);
    mb_bytes_fini(&b);
}

static enum mb_status compute(const char *model, const char *calibration, const char *results,
                              const char *says)
{
    int how = 0;
    pid_t me = getpid();

    mb_info("scoring %s with %s", calibration, model);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return mb_error(MB_NO_MEMORY, "no process to compute the calibration: %s", strerror(errno));
    if (pid == 0)
        child(model, calibration, results, says, me);
    MB_TRY(wait_for(pid, &how));
    if (*mb_signals_stop() != 0)
        return mb_error(MB_STOP, "asked to stop: what was half written is removed");
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return MB_OK;
    repeat(says);
    if (WIFEXITED(how))
        return mb_error(MB_INPUT, "scoring %s with %s ended with exit code %d", calibration, model,
                        WEXITSTATUS(how));
    return mb_error(MB_INPUT, "scoring %s with %s ended with signal %d", calibration, model, WTERMSIG(how));
}

/* ---------------------------------------------------------------- logits */
struct sums {
    double kl, worst, old, new; /* old, new: log-likelihoods */
    int64_t places, agree, likely, requests;
};

static double normaliser(const float *z, uint64_t n, uint64_t *best)
{
    double sum = 0;

    *best = 0;
    for (uint64_t i = 1; i < n; i++)
        *best = z[i] > z[*best] ? i : *best;
    for (uint64_t i = 0; i < n; i++)
        sum += exp((double)z[i] - (double)z[*best]);
    return log(sum) + (double)z[*best];
}

/* next: the token that came, or -1. */
static void place(struct sums *s, const float *a, const float *b, uint64_t n, int64_t next)
{
    uint64_t best_a, best_b;
    double la = normaliser(a, n, &best_a), lb = normaliser(b, n, &best_b), kl = 0;

    for (uint64_t i = 0; i < n; i++) {
        double pa = (double)a[i] - la;
        kl += exp(pa) * (pa - ((double)b[i] - lb));
    }
    s->kl += kl;
    s->worst = kl > s->worst ? kl : s->worst;
    s->places++;
    s->agree += best_a == best_b;
    if (next >= 0) {
        s->old += (double)a[next] - la;
        s->new += (double)b[next] - lb;
        s->likely++;
    }
}

/* The rows of a prompt: both models read the same tokens there. */
static enum mb_status compare_row(struct mb_results *a, struct mb_results *b, uint64_t i,
                                  const struct mb_record *rec, float *za, float *zb, struct sums *s)
{
    uint64_t vocab = mb_results_info(a)->vocab, fa = 0, fb = 0;
    int64_t rows = rec->n_rows < rec->n_prompt ? rec->n_rows : rec->n_prompt;

    MB_TRY(mb_results_first(a, i, &fa));
    MB_TRY(mb_results_first(b, i, &fb));
    for (int64_t r = 0; r < rows; r += ROWS) {
        int64_t n = rows - r < ROWS ? rows - r : ROWS;
        MB_TRY(mb_results_bulk(a, MB_BULK_LOGITS, fa + (uint64_t)r, (uint64_t)n, za));
        MB_TRY(mb_results_bulk(b, MB_BULK_LOGITS, fb + (uint64_t)r, (uint64_t)n, zb));
        for (int64_t j = 0; j < n; j++) {
            int64_t next = r + j + 1 < rec->n_prompt ? rec->prompt_ids[r + j + 1] : -1;
            place(s, za + (uint64_t)j * vocab, zb + (uint64_t)j * vocab, vocab,
                  next < (int64_t)vocab ? next : -1);
        }
    }
    s->requests += rows > 0;
    return MB_OK;
}

static enum mb_status compare_all(struct mb_results *a, struct mb_results *b, struct sums *s)
{
    const struct mb_results_info *ia = mb_results_info(a), *ib = mb_results_info(b);
    size_t n = (size_t)ia->vocab * ROWS;
    float *za = malloc((n + 1) * sizeof *za), *zb = malloc((n + 1) * sizeof *zb);
    enum mb_status st = za == NULL || zb == NULL ? mb_error(MB_NO_MEMORY, "no memory for logits") : MB_OK;

    if (st == MB_OK && (ia->rows != ib->rows || ia->vocab != ib->vocab || ia->n_prompt != ib->n_prompt))
        st = mb_error(MB_BUG, "two runs of one input have other rows");
    for (uint64_t i = 0; i < ia->rows && st == MB_OK; i++) {
        struct mb_record rec = {0};
        st = mb_results_row(a, i, &rec);
        if (st == MB_OK && rec.status == MB_ROW_OK)
            st = compare_row(a, b, i, &rec, za, zb, s);
        mb_record_fini(&rec);
    }
    free(za);
    free(zb);
    return st;
}

static enum mb_status compare(const char *ra, const char *rb, const char *calibration,
                              struct mb_quantize_text *out)
{
    struct mb_results *a = NULL, *b = NULL;
    struct sums s = {0};
    enum mb_status st = mb_results_open(ra, &a);

    if (st == MB_OK)
        st = mb_results_open(rb, &b);
    if (st == MB_OK)
        st = compare_all(a, b, &s);
    mb_results_close(a);
    mb_results_close(b);
    MB_TRY(st);
    if (s.places == 0)
        return mb_error(MB_INPUT, "%s: no request has a token that both models could predict", calibration);
    *out = (struct mb_quantize_text){.requests = s.requests,
                                     .tokens = s.places,
                                     .kl = s.kl / (double)s.places,
                                     .kl_worst = s.worst,
                                     .agree = (double)s.agree / (double)s.places};
    out->ppl_old = s.likely > 0 ? exp(-s.old / (double)s.likely) : NAN;
    out->ppl_new = s.likely > 0 ? exp(-s.new / (double)s.likely) : NAN;
    return MB_OK;
}

enum mb_status mb_quantize_compare(const char *old, const char *new, const char *calibration, const char *dir,
                                   struct mb_quantize_text *out)
{
    char *sub = mb_path_join(dir, "calibration"), *a = sub != NULL ? mb_path_join(sub, "old.h5") : NULL;
    char *b = sub != NULL ? mb_path_join(sub, "new.h5") : NULL,
         *says = sub != NULL ? mb_path_join(sub, "said") : NULL;
    enum mb_status st = a == NULL || b == NULL || says == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory for a path")
                            : mb_mkdirs(sub);

    if (st == MB_OK)
        st = compute(old, calibration, a, says);
    if (st == MB_OK)
        st = compute(new, calibration, b, says);
    if (st == MB_OK)
        st = compare(a, b, calibration, out);
    if (st == MB_OK)
        st = mb_remove_tree(sub);
    free(sub);
    free(a);
    free(b);
    free(says);
    return st;
}
