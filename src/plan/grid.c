/* Sizes and places of the two grids. */
#include "plan/grid.h"

#include <stdarg.h>
#include <stdio.h>

enum mb_status mb_layout_no(char *why, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, MB_LAYOUT_TEXT, format, ap);
    va_end(ap);
    return MB_LAYOUT;
}

/* A size that was given, or what is left over; MB_LAYOUT where the product can't be reached. */
static enum mb_status fill(const char *whole, int32_t n, const char *a, int32_t *x, int64_t y_times,
                           char *why)
{
    if (*x == 0 && n % y_times == 0)
        *x = (int32_t)(n / y_times);
    if (*x == 0)
        return mb_layout_no(
            why, "%s has %d ranks, which cannot be divided by %lld, the product of the other sizes", whole,
            (int)n, (long long)y_times);
    if (*x * y_times != n)
        return mb_layout_no(why, "%s has %d ranks, but %s %d times the other sizes (%lld) is %lld", whole,
                            (int)n, a, (int)*x, (long long)y_times, (long long)(*x * y_times));
    return MB_OK;
}

static int32_t or_one(int32_t v)
{
    return v > 0 ? v : 1;
}

/* ep from --num-experts-per-gpu. */
static enum mb_status ep_of(const struct mb_layout_options *o, int32_t *ep, char *why)
{
    *ep = o->ep;
    if (o->experts_per_gpu <= 0)
        return MB_OK;
    if (o->experts == 0)
        return mb_layout_no(
            why, "--num-experts-per-gpu %d, but the model is dense (it has no experts); leave it out",
            (int)o->experts_per_gpu);
    int32_t n = (int32_t)(((int64_t)o->experts + o->experts_per_gpu - 1) / o->experts_per_gpu);
    if (o->ep > 0 && o->ep != n)
        return mb_layout_no(why,
                            "--expert-parallel-size %d contradicts --num-experts-per-gpu %d: %d experts need "
                            "a size of %d; give one of the two",
                            (int)o->ep, (int)o->experts_per_gpu, (int)o->experts, (int)n);
    *ep = n;
    return MB_OK;
}

static enum mb_status experts_of(const struct mb_layout_options *o, int32_t n, struct mb_layout *l, char *why)
{
    l->etp = or_one(o->etp);
    l->edp = o->edp;
    MB_TRY(ep_of(o, &l->ep, why));
    if (l->ep == 0 && l->edp == 0)
        l->edp = 1;
    if (l->ep == 0)
        return fill("the expert grid", n, "--expert-parallel-size", &l->ep, (int64_t)l->etp * l->edp, why);
    if (l->edp == 0 && n % ((int64_t)l->ep * l->etp) != 0)
        return mb_layout_no(why,
                            "--expert-parallel-size %d times --expert-tensor-parallel-size %d does not "
                            "divide the %d ranks that hold experts",
                            (int)l->ep, (int)l->etp, (int)n);
    return fill("the expert grid", n, "--expert-data-parallel-size", &l->edp, (int64_t)l->ep * l->etp, why);
}

enum mb_status mb_layout_try(const struct mb_layout_options *o, int32_t world, struct mb_layout *out,
                             char why[MB_LAYOUT_TEXT])
{
    struct mb_layout l = {.world = world,
                          .dp = or_one(o->dp),
                          .pp = or_one(o->pp),
                          .tp = or_one(o->tp),
                          .sp = or_one(o->sp),
                          .adp = o->adp,
                          .lane_scope = o->lane_scope,
                          .attn = o->attn,
                          .expert = o->expert};
    int64_t outer = (int64_t)l.dp * l.pp;

    if (outer > world || world % outer != 0)
        return mb_layout_no(
            why, "--data-parallel-size %d times --pipeline-parallel-size %d does not divide %d ranks",
            (int)l.dp, (int)l.pp, (int)world);
    int32_t stage = mb_layout_stage_size(&l);
    if ((o->attn > 0) != (o->expert > 0) || (o->attn > 0 && (int64_t)o->attn + o->expert != stage))
        return mb_layout_no(
            why,
            "--disaggregate %d:%d, but a stage has %d ranks: the two must be at least 1 and add up to it",
            (int)o->attn, (int)o->expert, (int)stage);
    if ((int64_t)l.tp * l.sp > mb_layout_attn(&l))
        return mb_layout_no(why,
                            "--tensor-parallel-size %d times --sequence-parallel-size %d is more than the %d "
                            "ranks of a stage that attend",
                            (int)l.tp, (int)l.sp, (int)mb_layout_attn(&l));
    MB_TRY(fill("the attention grid", mb_layout_attn(&l), "--attention-data-parallel-size", &l.adp,
                (int64_t)l.tp * l.sp, why));
    MB_TRY(experts_of(o, mb_layout_expert(&l) * (l.lane_scope ? l.pp : 1), &l, why));
    *out = l;
    return MB_OK;
}

struct mb_layout_options mb_layout_options_of(const struct mb_layout *l)
{
    return (struct mb_layout_options){.dp = l->dp,
                                      .pp = l->pp,
                                      .tp = l->tp,
                                      .sp = l->sp,
                                      .adp = l->adp,
                                      .ep = l->ep,
                                      .etp = l->etp,
                                      .edp = l->edp,
                                      .lane_scope = l->lane_scope,
                                      .attn = l->attn,
                                      .expert = l->expert};
}

void mb_layout_text(const struct mb_layout *l, char out[MB_LAYOUT_TEXT])
{
    const struct {
        const char *name;
        int32_t v;
    } size[] = {{"data", l->dp},     {"pipeline", l->pp},       {"tensor", l->tp},
                {"sequence", l->sp}, {"expert-tensor", l->etp}, {"expert-data", l->edp}};
    size_t n = (size_t)snprintf(out, MB_LAYOUT_TEXT, "%d ranks with", (int)l->world), begin = n;

    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        if (size[i].v > 1)
            n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, " --%s-parallel-size %d", size[i].name,
                                  (int)size[i].v);
    }
    if (l->lane_scope)
        n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, " --expert-scope lane");
    if (l->attn > 0)
        n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, " --disaggregate %d:%d", (int)l->attn,
                              (int)l->expert);
    if (n == begin)
        snprintf(out + n, MB_LAYOUT_TEXT - n, " --expert-parallel-size %d", (int)l->ep);
}

void mb_layout_place(const struct mb_layout *l, int32_t index, struct mb_place *p)
{
    int32_t size = mb_layout_stage_size(l), attn = mb_layout_attn(l), each = mb_layout_expert(l);

    *p = (struct mb_place){.index = index, .a = -1, .q = -1, .t = -1, .c = -1, .e = -1, .x = -1};
    p->s = index % size;
    p->stage = index / size % l->pp;
    p->lane = index / size / l->pp;
    p->group = l->lane_scope ? p->lane : p->lane * l->pp + p->stage;
    p->member = l->lane_scope ? p->stage * size + p->s : p->s;
    if (p->s < attn) {
        p->a = p->s / (l->tp * l->sp);
        p->q = p->s / l->tp % l->sp;
        p->t = p->s % l->tp;
    }
    int32_t at = l->attn > 0 ? p->s - attn : p->s;
    if (at >= 0 && at < each) {
        int32_t n = (l->lane_scope ? p->stage * each : 0) + at;
        p->c = n / (l->ep * l->etp);
        p->e = n / l->etp % l->ep;
        p->x = n % l->etp;
    }
}

int32_t mb_layout_index(const struct mb_layout *l, int32_t lane, int32_t stage, int32_t a, int32_t q,
                        int32_t t)
{
    return (lane * l->pp + stage) * mb_layout_stage_size(l) + (a * l->sp + q) * l->tp + t;
}

int32_t mb_layout_member(const struct mb_layout *l, int32_t c, int32_t e, int32_t x)
{
    int32_t n = (c * l->ep + e) * l->etp + x, each = mb_layout_expert(l), size = mb_layout_stage_size(l);

    return n / each * size + (l->attn > 0 ? l->attn : 0) + n % each;
}
