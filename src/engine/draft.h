/* Speculation: ids of a sequence are guessed, and their rows are computed in one step with that of its last
 * known id. A draw depends on its key and its position alone, so a guess is right if it is what the row
 * before it draws: then its row is what would have been computed next, bit for bit. What is guessed, and
 * whether, is a matter of time only. Here: how much a group guesses. What a step costs is measured, which
 * part of guesses is right is counted; a guess pays if what it may bring is more than what its row costs.
 * Local. */
#ifndef MB_ENGINE_DRAFT_H
#define MB_ENGINE_DRAFT_H
#include <stdbool.h>
#include <stdint.h>

#define MB_DRAFTS_MOST 16 /* of a sequence in a step */
#define MB_MTP_DRAFTS 1   /* of the MTP module */

enum mb_draft_how {
    MB_DRAFT_OFF,
    MB_DRAFT_NGRAM, /* where the last ids stand in the sequence already: what followed (ngram.h) */
    MB_DRAFT_MTP    /* what the model's MTP module holds for likeliest */
};

struct mb_drafting {
    enum mb_draft_how how;
    int32_t most; /* guesses of a sequence in a step */
    bool always;  /* as many as that, whether they pay or not */
    double extra; /* of the MTP module: cost of its layer, as a part of a step's */
};

/* Of a group: part of guesses that are right, and what steps cost: least squares of seconds by rows, old
 * steps fade. */
struct mb_draft_sums {
    double hits, judged; /* judged: so many, up to the number that is trusted */
    double n, x, y, xx, xy;
};

/* A step of so many rows has taken so long. */
void mb_draft_time(struct mb_draft_sums *s, int32_t rows, double seconds);
/* A guess was right, or not. */
void mb_draft_judge(struct mb_draft_sums *s, bool right);
/* Part of guesses that are right. */
double mb_draft_hits(const struct mb_draft_sums *s);
/* Tokens that a row has to bring, beside a step of `rows` rows of which `draws` draw: its cost in steps,
 * times what a step brings. */
double mb_draft_price(const struct mb_draft_sums *s, int32_t rows, int32_t draws);
/* How many guesses pay one after the other: guess i is right in hits^i of all cases. */
int32_t mb_draft_count(double hits, double price, int32_t most);
/* Whether a step with the MTP module and a guess for each of `draws` rows brings more in its time than one
 * without. */
bool mb_draft_module_pays(const struct mb_draft_sums *s, double extra, int32_t rows, int32_t draws);
#endif
