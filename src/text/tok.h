/* The tokenizer's inside: what tokenizer.json and *.model are turned into. */
#ifndef MB_TEXT_TOK_H
#define MB_TEXT_TOK_H
#include "text/added.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/norm.h"
#include "text/pretok.h"
#include "text/spm.h"
#include "text/tokenizer.h"
#include "text/unigram.h"
#include "text/vocab.h"

#define MB_STEPS_MAX 32
/* Ids lie below this; a real vocabulary has at most some hundred thousand. */
#define MB_ID_MAX (1 << 24)

enum mb_model_kind {
    MB_MODEL_BPE,
    MB_MODEL_UNIGRAM,
    MB_MODEL_SPM_BPE,
};
struct mb_tokenizer {
    enum mb_model_kind kind;
    struct mb_vocab vocab; /* the model's tokens */
    struct mb_vocab extra; /* the added tokens, whether the model has them or not */
    uint8_t *special;      /* [special_cap]: 1 for special tokens; ids beyond are not special */
    int32_t special_cap;
    int32_t size;
    struct mb_added raw;  /* matched in the text as it came */
    struct mb_added norm; /* matched in the normalised text */
    struct mb_norm norms[MB_STEPS_MAX];
    int nnorms;
    struct mb_pre pres[MB_STEPS_MAX];
    int npres;
    struct mb_bpe bpe;
    struct mb_bytes prefix, suffix; /* of bpe */
    struct mb_unigram uni;
    struct mb_spm spm;
    struct mb_ids front, back; /* what the post-processor adds */
    struct mb_dec decs[MB_DEC_MAX];
    int ndecs;
};

/* The loaders fill a zeroed tokenizer; the caller destroys it on failure. */
enum mb_status mb_hf_load(struct mb_tokenizer *t, const char *path);
enum mb_status mb_spm_load(struct mb_tokenizer *t, const char *path);
#endif
