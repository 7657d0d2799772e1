#include "io/decide.h"

/* In this order: what could do harm first, then what the user can mend. */
static enum mb_refusal refusal(const struct mb_found *f)
{
    bool complete = f->results == MB_RESULTS_COMPLETE;
    if (f->resume && f->overwrite)
        return MB_REFUSAL_CONTRADICTION;
    if (f->clash)
        return MB_REFUSAL_CLASH;
    if (f->results == MB_RESULTS_ODD)
        return MB_REFUSAL_ODD;
    if (f->results == MB_RESULTS_FOREIGN && !f->overwrite)
        return MB_REFUSAL_FOREIGN;
    if (f->alive && !f->takeover)
        return MB_REFUSAL_ALIVE;
    if (!f->resume && !f->overwrite && (f->results != MB_RESULTS_NONE || f->records))
        return MB_REFUSAL_RESULTS;
    if (f->openai && f->openai_there && !f->overwrite && !(f->resume && complete))
        return MB_REFUSAL_OPENAI;
    if (f->resume && f->identity == MB_SAME_NO && !(f->input_missing && complete))
        return MB_REFUSAL_IDENTITY;
    return MB_REFUSAL_NONE;
}

struct mb_decision mb_decide(const struct mb_found *f)
{
    struct mb_decision d = {.start = MB_START_REFUSED, .refusal = refusal(f)};
    if (d.refusal != MB_REFUSAL_NONE)
        return d;
    if (f->resume && f->results == MB_RESULTS_COMPLETE) {
        d.start = f->openai && !f->openai_there ? MB_START_LINES : MB_START_COMPLETE;
        return d;
    }
    d.start = f->resume && f->records ? MB_START_RESUME : MB_START_FRESH;
    d.remove_runs = d.start == MB_START_FRESH; /* without records an earlier start has left nothing */
    d.remove_results = f->overwrite && f->results != MB_RESULTS_NONE;
    d.remove_openai = f->overwrite && f->openai && f->openai_there;
    return d;
}
