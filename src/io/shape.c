#include "io/shape.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

void mb_shape_fini(struct mb_shape *s)
{
    free(s->layers);
    memset(s, 0, sizeof *s);
}

uint64_t mb_shape_row_bytes(const struct mb_shape *s, enum mb_bulk_kind kind)
{
    uint64_t routed = (uint64_t)s->n_layers * (uint64_t)s->k;
    switch (kind) {
    case MB_BULK_EXPERTS:
    case MB_BULK_PHYSICAL:
        return s->routing ? routed * sizeof(uint16_t) : 0;
    case MB_BULK_WEIGHTS:
        return s->routing ? routed * sizeof(float) : 0;
    case MB_BULK_LOGITS:
        return s->logits ? (uint64_t)s->vocab * sizeof(float) : 0;
    case MB_BULK_HIDDEN:
        return s->hidden ? (uint64_t)s->hidden_rows * (uint64_t)s->hidden_size * sizeof(float) : 0;
    case MB_BULK_MTP:
        return s->mtp ? (uint64_t)s->vocab * sizeof(float) : 0;
    default:
        return 0;
    }
}

json_t *mb_shape_json(const struct mb_shape *s)
{
    json_t *layers = json_array();
    for (int32_t i = 0; i < s->n_layers && s->layers != NULL; i++)
        json_array_append_new(layers, json_integer(s->layers[i]));
    return json_pack("{s:b, s:b, s:b, s:b, s:b, s:o, s:I, s:I, s:I, s:I}", "routing", s->routing, "logits", s->logits,
                     "logits_last", s->logits_last, "hidden", s->hidden, "mtp", s->mtp, "layers", layers, "k",
                     (json_int_t)s->k, "vocab", (json_int_t)s->vocab, "hidden_rows", (json_int_t)s->hidden_rows,
                     "hidden_size", (json_int_t)s->hidden_size);
}

static enum mb_status parse_layers(const json_t *v, const char *what, struct mb_shape *s)
{
    size_t n = json_array_size(v);
    if (n > 100000)
        return mb_error(MB_CORRUPT, "%s: %zu layers", what, n);
    s->layers = calloc(n + 1, sizeof *s->layers);
    if (s->layers == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of layers");
    for (size_t i = 0; i < n; i++)
        s->layers[i] = (int32_t)json_integer_value(json_array_get(v, i));
    s->n_layers = (int32_t)n;
    return MB_OK;
}

enum mb_status mb_shape_parse(const json_t *obj, const char *what, struct mb_shape *out)
{
    struct mb_shape s = {0};
    enum mb_status st = MB_OK;
    if (json_is_object(obj)) {
        st = mb_json_bool(obj, "routing", what, &s.routing, NULL);
        if (st == MB_OK)
            st = mb_json_bool(obj, "logits", what, &s.logits, NULL);
        if (st == MB_OK)
            st = mb_json_bool(obj, "logits_last", what, &s.logits_last, NULL);
        if (st == MB_OK)
            st = mb_json_bool(obj, "hidden", what, &s.hidden, NULL);
        if (st == MB_OK)
            st = mb_json_bool(obj, "mtp", what, &s.mtp, NULL);
        if (st == MB_OK)
            st = mb_json_int(obj, "k", 0, 65536, what, &s.k, NULL);
        if (st == MB_OK)
            st = mb_json_int(obj, "vocab", 0, INT32_MAX, what, &s.vocab, NULL);
        if (st == MB_OK)
            st = mb_json_int(obj, "hidden_rows", 0, 100000, what, &s.hidden_rows, NULL);
        if (st == MB_OK)
            st = mb_json_int(obj, "hidden_size", 0, INT32_MAX, what, &s.hidden_size, NULL);
        if (st == MB_OK)
            st = parse_layers(json_object_get(obj, "layers"), what, &s);
    }
    if (st != MB_OK) {
        mb_shape_fini(&s);
        return st == MB_MODEL ? MB_CORRUPT : st;
    }
    *out = s;
    return MB_OK;
}
