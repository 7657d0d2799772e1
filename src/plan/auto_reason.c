/* The planner's sentence. */
#include "plan/auto.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *out;
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...)
{
    va_list ap;

    if (t->n >= MB_AUTO_TEXT)
        return;
    va_start(ap, format);
    t->n += (size_t)vsnprintf(t->out + t->n, MB_AUTO_TEXT - t->n, format, ap);
    va_end(ap);
}

static double gb(const struct mb_auto_in *in, int64_t bytes)
{
    return (double)bytes / in->c->gib;
}

/* The fastest of those that split less, NULL: none of them fits. */
static const struct mb_candidate *simpler(const struct mb_auto *a, const struct mb_candidate *c)
{
    for (int64_t j = 0; j < a->n; j++) {
        if (a->fit[j].level < c->level)
            return &a->fit[j];
    }
    return NULL;
}

/* Why the simpler ones are not taken. */
static void say_simpler(struct text *t, const struct mb_auto *a, const struct mb_auto_in *in,
                        const struct mb_candidate *c)
{
    const char *unit = in->c->cpu ? "GiB" : "GB";
    const struct mb_candidate *plain = &a->least[0], *s = simpler(a, c);

    if (c->level == 0) {
        say(t, "expert and data parallelism alone fit, so neither tensors nor layers need be split");
        return;
    }
    if (s != NULL)
        say(t,
            "the fastest layout that splits less (KV for %lld sequences) is estimated to take %.0f %% longer",
            (long long)s->seqs, 100 * (s->cost.seconds / c->cost.seconds - 1));
    else if (plain->need > in->memory)
        say(t, "without splitting more than the set of experts a rank would need at least %.1f %s of %.1f",
            gb(in, plain->need), unit, gb(in, in->memory));
    else
        say(t, "expert and data parallelism alone are not possible here");
    if (c->l.tp > 1)
        say(t, "; tensor parallelism divides the shared layers by %d", (int)c->l.tp);
    if (c->l.etp > 1)
        say(t, "; expert-tensor parallelism divides each expert by %d", (int)c->l.etp);
    if (c->l.pp > 1)
        say(t, "; the layers lie in %d stages", (int)c->l.pp);
}

static void say_experts(struct text *t, const struct mb_auto_in *in, const struct mb_candidate *c)
{
    int32_t ranks = c->l.ep * c->l.etp, E = in->m->router.experts, each = (E + c->l.ep - 1) / c->l.ep;

    if (in->m->moe_layers == 0)
        return;
    if (ranks == 1) {
        say(t, "; every rank has all experts");
        return;
    }
    if (c->l.ep > 1)
        say(t, "; %d shards of %s%d of %d experts ", (int)c->l.ep, E % c->l.ep ? "up to " : "", (int)each,
            (int)E);
    else
        say(t, "; the slices of all experts ");
    if (in->c->nodes > 1)
        say(t, ranks <= in->c->per_node && in->c->per_node % ranks == 0
                   ? "stay inside a node, and no row crosses the network in a layer"
                   : "reach over several nodes");
    else
        say(t, "lie on %d ranks", (int)ranks);
}

void mb_auto_reason(const struct mb_auto *a, const struct mb_auto_in *in, int64_t i, char out[MB_AUTO_TEXT])
{
    const struct mb_candidate *c = &a->fit[i];
    struct text t = {out, 0};

    out[0] = '\0';
    say_simpler(&t, a, in, c);
    say_experts(&t, in, c);
    if (c->l.dp > 1)
        say(&t, "; %d DP replicas share the requests", (int)c->l.dp);
    if (c->l.sp > 1)
        say(&t, "; sequences of more than %d positions are asked for, and %d ranks share each",
            MB_AUTO_CONTEXT, (int)c->l.sp);
    say(&t,
        i == 0 ? "; it is estimated to be the fastest of %lld layouts that fit"
               : "; %lld layouts fit, and those estimated to be faster do not work on these nodes",
        (long long)a->n);
}
