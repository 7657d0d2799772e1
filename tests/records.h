/* Synthetic records for tests: everything follows from (line, choice) by a small generator, so that any process can make
 * the same record again. */
#ifndef TESTS_RECORDS_H
#define TESTS_RECORDS_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "job/record.h"

static inline uint64_t rec_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline struct mb_text rec_text(const char *s)
{
    return (struct mb_text){strdup(s), strlen(s)};
}

static inline int32_t *rec_ids(uint64_t seed, int64_t n)
{
    int32_t *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; v != NULL && i < n; i++)
        v[i] = (int32_t)(rec_mix(seed + (uint64_t)i) % 50000);
    return v;
}

static inline float *rec_floats(uint64_t seed, int64_t n)
{
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; v != NULL && i < n; i++)
        v[i] = -(float)(rec_mix(seed + (uint64_t)i) % 10000) / 777.0f;
    return v;
}

/* How many choices a line of the synthetic job has. */
static inline int32_t rec_choices(uint64_t line)
{
    return line % 7 == 3 ? 3 : 1;
}

static inline void rec_score(struct mb_record *r, uint64_t seed)
{
    r->prompt_logprobs = rec_floats(seed + 200, r->n_prompt);
    r->prompt_logprobs[0] = NAN;
    r->logprob_sum = 0;
    for (int64_t i = 1; i < r->n_prompt; i++)
        r->logprob_sum += (double)r->prompt_logprobs[i];
    r->is_greedy = r->kind == MB_KIND_LOGLIKELIHOOD && seed % 2 == 0;
    r->n_rows = r->n_prompt;
}

static inline void rec_generate(struct mb_record *r, uint64_t seed)
{
    char text[64];
    r->n_output = 1 + (int64_t)(rec_mix(seed + 2) % 9);
    r->output_ids = rec_ids(seed + 300, r->n_output);
    r->output_logprobs = rec_floats(seed + 400, r->n_output);
    r->top_n = r->line % 5 == 0 ? 2 + (int32_t)(r->line % 3) : 0;
    r->top_ids = rec_ids(seed + 500, r->n_output * r->top_n);
    r->top_logprobs = rec_floats(seed + 600, r->n_output * r->top_n);
    for (int64_t i = 0; i < r->n_output; i++)
        r->logprob_sum += (double)r->output_logprobs[i];
    snprintf(text, sizeof text, "text of %llu \xc3\xa9\xe6\x96\x87", (unsigned long long)r->line);
    r->text = rec_text(text);
    r->finish = MB_FINISH_LENGTH;
    r->n_rows = r->n_prompt + r->n_output - 1;
}

/* The record of (line, choice): every 11th line is an error row; kinds alternate. */
static inline void rec_make(uint64_t line, int32_t choice, struct mb_record *r)
{
    char id[40];
    uint64_t seed = line * 1000003 + (uint64_t)choice * 7919;

    memset(r, 0, sizeof *r);
    r->line = line;
    r->choice = choice;
    r->n = rec_choices(line);
    snprintf(id, sizeof id, line % 4 == 0 ? "%llu" : "req-%llu", (unsigned long long)line + 1);
    r->id = rec_text(id);
    r->kind = r->n > 1 ? MB_KIND_GENERATE : (uint8_t)(line % 3);
    r->timing = (struct mb_timing){0.25, 0.5, 0.125, 1.0 + (double)line};
    if (line % 11 == 10 && r->n == 1) {
        r->status = MB_ROW_ERROR;
        r->finish = MB_FINISH_ERROR;
        r->error = rec_text("prompt: too long");
        return;
    }
    r->n_prompt = 1 + (int64_t)(rec_mix(line) % 13);
    r->prompt_ids = rec_ids(line * 31, r->n_prompt);
    if (r->kind == MB_KIND_GENERATE)
        rec_generate(r, seed);
    else
        rec_score(r, seed);
}
#endif
