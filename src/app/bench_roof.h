/* The least time that a model's work can take on machines with given rates of multiplying and reading (a
 * roofline). Pure. */
#ifndef MB_APP_BENCH_ROOF_H
#define MB_APP_BENCH_ROOF_H
#include "base/json.h"
#include "model/model.h"

struct mb_roof {
    const struct mb_model *m;
    /* of the model */
    double token_flops;  /* of a token in all layers, without attention over keys: 2 for each weight that it
                            meets */
    double head_flops;   /* of a row's logits */
    double dense_bytes;  /* weights that every step reads: all but experts and the embedding */
    double expert_bytes; /* of one routed expert in all layers */
    double kv_bytes;     /* of a position's keys and values in all layers */
    double state_bytes;  /* of what linear attention keeps of a sequence, read and written */
    double experts, k;   /* 0: a dense model */
    /* of the machines together */
    double flops, read;   /* FLOP/s, bytes/s */
    double copies, lanes; /* of the dense weights that a step of all groups reads; of the experts */
};

/* The part that the model decides; element: bytes of a weight, kv: of a key's element. */
void mb_roof_of(const struct mb_model *m, double element, double kv, struct mb_roof *out);
/* FLOPs of attention of one row that sees ctx positions, in all layers. */
double mb_roof_attention(const struct mb_roof *r, double ctx);
/* FLOPs of a prompt of n tokens, with the logits of its last row. */
double mb_roof_prompt(const struct mb_roof *r, int64_t n);
/* Bytes that a step of b rows reads, which together see `positions` positions. */
double mb_roof_bytes(const struct mb_roof *r, double b, double positions);
/* Seconds of work: the longer of multiplying and reading. */
double mb_roof_seconds(const struct mb_roof *r, double flops, double bytes);
/* Seconds of a decoding step of b sequences at a context of ctx positions each. */
double mb_roof_step(const struct mb_roof *r, double b, double ctx);
/* The numbers, for whoever wants to compute it again. New reference or NULL. */
json_t *mb_roof_json(const struct mb_roof *r);
#endif
