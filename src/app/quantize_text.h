/* How far the results of one model are from those of another, on text. */
#ifndef MB_APP_QUANTIZE_TEXT_H
#define MB_APP_QUANTIZE_TEXT_H
#include <stdint.h>
#include "base/status.h"

struct mb_quantize_text {
    int64_t requests, tokens; /* tokens: places whose distributions were compared */
    double kl, kl_worst;      /* of old from new, in nats: the mean and the largest of a token */
    double agree;             /* part of the places with the same likeliest token */
    double ppl_old, ppl_new;  /* perplexities of the texts */
};

/* Scores the requests of `calibration` with both directories in the bf16 path, each in a process of its own,
 * and compares all logits. dir: for temporary files; what is made there is removed. Errors: those of files;
 * MB_INPUT: a run failed (it has said why), or there was nothing to compare; MB_STOP. Local; before MPI. */
enum mb_status mb_quantize_compare(const char *old, const char *new, const char *calibration, const char *dir,
                                   struct mb_quantize_text *out);
#endif
