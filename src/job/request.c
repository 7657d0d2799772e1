#include "job/request.h"

#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/mem.h"

void mb_sampling_init(struct mb_sampling *s)
{
    *s = (struct mb_sampling){.temperature = 1.0f, .top_p = 1.0f, .repetition = 1.0f, .max_tokens = -1};
}

void mb_request_destroy(struct mb_request *r)
{
    if (r == NULL)
        return;
    free(r->id.data);
    free(r->error);
    free(r->sampling.bias);
    free(r->sampling.allowed);
    free(r->sampling.bad.ids);
    free(r->sampling.bad.end);
    free(r->stop_ids);
    free(r->guide.data);
    mb_free(r->prompt);
    for (int32_t i = 0; i < r->n_stop && i < MB_MAX_STOP; i++)
        free(r->stop[i].data);
    free(r->adapter);
    for (int32_t i = 0; r->resume != NULL && i < r->n; i++)
        mb_free(r->resume[i].forced);
    mb_free(r->resume);
    free(r);
}

/* The bytes hashed start with a tag, so that a request's own seed and the job's never give the same key by accident. */
uint64_t mb_request_key(const struct mb_request *r, uint64_t job_seed, int32_t choice)
{
    const struct mb_sampling *s = &r->sampling;
    uint64_t word[4] = {s->has_seed ? 1 : 2, s->has_seed ? s->seed : job_seed, (uint64_t)(int64_t)choice, 0};

    if (!s->has_seed)
        word[3] = mb_hash64(r->id.data, r->id.len);
    return mb_hash64(word, sizeof word);
}
