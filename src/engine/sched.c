/* The scheduler: made and ended. */
#include "engine/sched.h"

#include <math.h>
#include "base/log.h"
#include "engine/sched_impl.h"

static enum mb_status flight_create(const struct mb_sched_options *o, struct mb_flight *f)
{
    size_t rows = (size_t)o->max_rows, seqs = (size_t)o->max_seqs;

    f->seq = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    f->seq_pos = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof *f->seq_pos);
    f->seq_row = mb_zalloc(o->mem, MB_MEM_REQUESTS, 4 * seqs, sizeof *f->seq_row);
    f->out_seq = mb_zalloc(o->mem, MB_MEM_REQUESTS, rows, sizeof(void *));
    f->out_pos = mb_zalloc(o->mem, MB_MEM_REQUESTS, rows, sizeof *f->out_pos);
    f->ride = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    f->ride_end = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof *f->ride_end);
    if (!f->seq || !f->seq_pos || !f->seq_row || !f->out_seq || !f->out_pos || !f->ride || !f->ride_end)
        return mb_error(MB_NO_MEMORY,
                        "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
    f->seq_rows = f->seq_row + seqs;
    f->seq_skip = f->seq_rows + seqs;
    f->seq_kept = f->seq_skip + seqs;
    return MB_OK;
}

static enum mb_status flights_create(struct mb_sched *s)
{
    s->stage_tick = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.depth, sizeof *s->stage_tick);
    s->flight = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.depth, sizeof *s->flight);
    if (s->stage_tick == NULL || s->flight == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d steps", s->o.depth);
    for (int32_t i = 0; i < s->o.depth; i++)
        MB_TRY(flight_create(&s->o, &s->flight[i]));
    return MB_OK;
}

static enum mb_status no_logits_create(struct mb_sched *s)
{
    if (!s->o.mtp)
        return MB_OK;
    s->no_logits = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.vocab, sizeof(float));
    for (int32_t i = 0; s->no_logits != NULL && i < s->o.vocab; i++)
        s->no_logits[i] = NAN;
    return s->no_logits != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for %d logits", s->o.vocab);
}

enum mb_status mb_sched_create(const struct mb_sched_options *o, struct mb_counters *counters,
                               struct mb_sched *s)
{
    size_t seqs = (size_t)o->max_seqs;

    *s = (struct mb_sched){.o = *o, .counters = counters};
    s->draft.pays = true;
    s->running = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    s->waiting = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    s->ask = mb_zalloc(o->mem, MB_MEM_REQUESTS, (size_t)o->max_rows, sizeof *s->ask);
    s->fit.q = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs + 1, sizeof(void *));
    s->fit.begin = mb_zalloc(o->mem, MB_MEM_REQUESTS, (4 + (size_t)o->parts) * (seqs + 1), sizeof(int64_t));
    if (!s->running || !s->waiting || !s->ask || !s->fit.q || !s->fit.begin)
        return mb_error(MB_NO_MEMORY, "no memory for %zu sequences; use a smaller --max-num-seqs", seqs);
    s->fit.draw = s->fit.begin + seqs + 1;
    s->fit.end = s->fit.draw + seqs + 1;
    s->fit.times = s->fit.end + seqs + 1;
    s->fit.own = s->fit.times + seqs + 1;
    MB_TRY(mb_pages_create(o->mem, o->parts, o->kv_pages, o->share, &s->pages));
    if (o->share)
        MB_TRY(mb_prefix_create(o->mem, &s->pages, &s->prefix));
    if (o->states)
        s->state_used = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs + 1, 1);
    if (o->states && s->state_used == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu sequences; use a smaller --max-num-seqs", seqs);
    MB_TRY(no_logits_create(s));
    return flights_create(s);
}

void mb_sched_destroy(struct mb_sched *s)
{
    for (int32_t i = 0; i < s->n_running; i++)
        mb_seq_destroy(s->running[i]);
    mb_seq_destroy(s->held);
    for (int32_t i = 0; i < s->n_waiting; i++)
        mb_job_drop(s->waiting[i]);
    mb_free(s->running);
    mb_free(s->waiting);
    mb_free(s->ask);
    mb_free(s->fit.q);
    mb_free(s->fit.begin);
    mb_prefix_destroy(&s->prefix);
    mb_pages_destroy(&s->pages);
    mb_free(s->no_logits);
    mb_free(s->state_used);
    mb_free(s->stage_tick);
    for (int32_t i = 0; i < s->o.depth && s->flight != NULL; i++) {
        mb_free(s->flight[i].seq);
        mb_free(s->flight[i].seq_pos);
        mb_free(s->flight[i].seq_row);
        mb_free(s->flight[i].out_seq);
        mb_free(s->flight[i].out_pos);
        mb_free(s->flight[i].ride);
        mb_free(s->flight[i].ride_end);
    }
    mb_free(s->flight);
    *s = (struct mb_sched){0};
}
