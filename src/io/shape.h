/* What is saved beside the rows, and its sizes: known to the run from model and options, kept in owner.json so that
 * `moebatch assemble` needs no model. Local. */
#ifndef MB_IO_SHAPE_H
#define MB_IO_SHAPE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "job/record.h"

struct mb_shape {
    bool routing, logits, logits_last, hidden, mtp; /* --save-routing, --save-logits, --save-hidden; an MTP module */
    int32_t n_layers;     /* MoE layers (Lm) */
    int32_t *layers;      /* [n_layers] their indices in the model, malloc'd */
    int64_t k;            /* experts per token */
    int64_t vocab;        /* V */
    int64_t hidden_rows;  /* layers + 1 */
    int64_t hidden_size;  /* H */
};
void mb_shape_fini(struct mb_shape *s);
/* Bytes of one bulk row of a kind; 0: not saved. What struct mb_sink_options wants. */
uint64_t mb_shape_row_bytes(const struct mb_shape *s, enum mb_bulk_kind kind);

json_t *mb_shape_json(const struct mb_shape *s); /* new reference; NULL without memory */
/* NULL obj: nothing is saved. Errors: MB_CORRUPT (logged). */
enum mb_status mb_shape_parse(const json_t *obj, const char *what, struct mb_shape *out);
#endif
