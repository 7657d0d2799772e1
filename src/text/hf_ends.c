/* The parts of tokenizer.json that work on ids and tokens: post_processor and decoder. */
#include <string.h>
#include "base/log.h"
#include "text/hf_parts.h"
#include "base/utf8.h"

/* ------------------------------------------------------------------ post_processor */

static enum mb_status check_id(const struct mb_tokenizer *t, const json_t *v, const char *path, int32_t *out)
{
    json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    size_t n;
    if (id < 0 || id >= t->size ||
        (mb_vocab_text(&t->extra, (int32_t)id, &n) == NULL &&
         mb_vocab_text(&t->vocab, (int32_t)id, &n) == NULL))
        return mb_error(MB_MODEL, "%s: post_processor: id %lld is not in the vocabulary", path,
                        (long long)id);
    *out = (int32_t)id;
    return MB_OK;
}

/* The ids of a template's special token, appended to ids. */
static enum mb_status special_ids(const struct mb_tokenizer *t, const json_t *proc, const json_t *piece,
                                  const char *path, struct mb_ids *ids)
{
    const json_t *name = json_object_get(piece, "id");
    const json_t *tok = json_is_string(name) ? json_object_get(json_object_get(proc, "special_tokens"),
                                                               json_string_value(name))
                                             : NULL;
    const json_t *list = json_object_get(tok, "ids");
    if (!json_is_array(list))
        return mb_error(MB_MODEL, "%s: post_processor: special token \"%.60s\" has no ids in special_tokens",
                        path, json_is_string(name) ? json_string_value(name) : "?");
    for (size_t i = 0; i < json_array_size(list); i++) {
        int32_t id;
        MB_TRY(check_id(t, json_array_get(list, i), path, &id));
        MB_TRY(mb_ids_put(ids, id));
    }
    return MB_OK;
}

static enum mb_status template_ids(const struct mb_tokenizer *t, const json_t *v, const char *path,
                                   struct mb_ids *front, struct mb_ids *back)
{
    const json_t *single = json_object_get(v, "single");
    int seen = 0;
    if (!json_is_array(single))
        return mb_error(MB_MODEL, "%s: post_processor: single: expected a list, found %s", path,
                        mb_json_type(single));
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *sp = json_object_get(piece, "SpecialToken");
        const json_t *id = json_object_get(json_object_get(piece, "Sequence"), "id");
        if (json_is_string(id) && strcmp(json_string_value(id), "A") == 0)
            seen++;
        else if (json_is_object(sp))
            MB_TRY(special_ids(t, v, sp, path, seen ? back : front));
        else
            return mb_error(MB_MODEL,
                            "%s: post_processor: single: entry %zu is neither a SpecialToken nor the "
                            "Sequence A",
                            path, i);
    }
    if (seen != 1)
        return mb_error(MB_MODEL, "%s: post_processor: single: has the Sequence A %d times", path, seen);
    return MB_OK;
}

/* cls A sep: BertProcessing and RobertaProcessing. */
static enum mb_status cls_sep(const struct mb_tokenizer *t, const json_t *v, const char *path,
                              struct mb_ids *front, struct mb_ids *back)
{
    int32_t cls, sep;
    MB_TRY(check_id(t, json_array_get(json_object_get(v, "cls"), 1), path, &cls));
    MB_TRY(check_id(t, json_array_get(json_object_get(v, "sep"), 1), path, &sep));
    MB_TRY(mb_ids_put(front, cls));
    return mb_ids_put(back, sep);
}

/* A later processor wraps what an earlier one gave. */
static enum mb_status wrap(struct mb_tokenizer *t, struct mb_ids *front, const struct mb_ids *back)
{
    for (int64_t i = 0; i < t->front.n; i++)
        MB_TRY(mb_ids_put(front, t->front.v[i]));
    for (int64_t i = 0; i < back->n; i++)
        MB_TRY(mb_ids_put(&t->back, back->v[i]));
    struct mb_ids old = t->front;
    t->front = *front;
    *front = old;
    return MB_OK;
}

static enum mb_status post_step(struct mb_tokenizer *t, const json_t *v, const char *type, const char *path)
{
    struct mb_ids front = {0}, back = {0};
    enum mb_status st;
    if (strcmp(type, "ByteLevel") == 0) /* offsets only */
        return MB_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        st = template_ids(t, v, path, &front, &back);
    else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        st = cls_sep(t, v, path, &front, &back);
    else
        st = mb_error(MB_MODEL, "%s: post_processor: type \"%.60s\" is not supported", path, type);
    if (st == MB_OK)
        st = wrap(t, &front, &back);
    free(front.v);
    free(back.v);
    return st;
}

enum mb_status mb_hf_post(struct mb_tokenizer *t, const json_t *v, const char *path, int depth)
{
    const char *type;
    if (v == NULL || json_is_null(v))
        return MB_OK;
    MB_TRY(mb_hf_type(v, path, "post_processor", &type));
    if (strcmp(type, "Sequence") != 0)
        return post_step(t, v, type, path);
    const json_t *list = json_object_get(v, "processors");
    if (!json_is_array(list) || depth > MB_HF_DEPTH || json_array_size(list) > MB_STEPS_MAX)
        return mb_error(MB_MODEL,
                        "%s: post_processor: processors: expected a list of at most %d, nested at most %d "
                        "deep",
                        path, MB_STEPS_MAX, MB_HF_DEPTH);
    for (size_t i = 0; i < json_array_size(list); i++)
        MB_TRY(mb_hf_post(t, json_array_get(list, i), path, depth + 1));
    return MB_OK;
}

/* ------------------------------------------------------------------ decoder */

static enum mb_status dec_strip(struct mb_dec *s, const json_t *v, const char *path)
{
    s->kind = MB_DEC_STRIP;
    MB_TRY(mb_hf_char(v, "content", path, "decoder: Strip", &s->cp));
    MB_TRY(mb_json_int(v, "start", 0, INT32_MAX, path, &s->start, NULL));
    return mb_json_int(v, "stop", 0, INT32_MAX, path, &s->stop, NULL);
}

static enum mb_status dec_metaspace(struct mb_dec *s, const json_t *v, const char *path)
{
    uint32_t cp;
    enum mb_prepend prepend;
    s->kind = MB_DEC_METASPACE;
    MB_TRY(mb_hf_char(v, "replacement", path, "decoder: Metaspace", &cp));
    MB_TRY(mb_hf_prepend(v, path, "decoder: Metaspace", &prepend));
    s->mark_len = mb_utf8_put(cp, s->mark);
    s->strip_first = prepend != MB_PREPEND_NEVER;
    return MB_OK;
}

/* A pattern that could match across chunks of a fused text can't be replaced in a stream. */
static enum mb_status dec_replace(struct mb_dec *s, const json_t *v, const char *path)
{
    uint32_t cp;
    s->kind = MB_DEC_REPLACE;
    MB_TRY(mb_hf_text(v, "content", path, "decoder: Replace", &s->text));
    MB_TRY(mb_hf_pattern(v, path, "decoder: Replace", &s->pattern));
    if (s->fused && (s->pattern.re != NULL || (size_t)mb_utf8_next(s->pattern.lit, &cp) != s->pattern.nlit))
        return mb_error(MB_MODEL,
                        "%s: decoder: Replace of more than one character behind a decoder that joins the "
                        "tokens is not supported",
                        path);
    return MB_OK;
}

static enum mb_status dec_step(struct mb_dec *s, const json_t *v, const char *type, const char *path)
{
    if (strcmp(type, "Replace") == 0)
        return dec_replace(s, v, path);
    if (strcmp(type, "Strip") == 0)
        return dec_strip(s, v, path);
    if (strcmp(type, "Metaspace") == 0)
        return dec_metaspace(s, v, path);
    if (strcmp(type, "Fuse") == 0)
        s->kind = MB_DEC_FUSE;
    else if (strcmp(type, "ByteLevel") == 0 && !s->fused)
        s->kind = MB_DEC_BYTES;
    else if (strcmp(type, "ByteFallback") == 0 && !s->fused)
        s->kind = MB_DEC_BYTE_FALLBACK;
    else
        return mb_error(MB_MODEL, "%s: decoder: type \"%.60s\" is not supported%s", path, type,
                        s->fused ? " behind a decoder that joins the tokens" : "");
    return MB_OK;
}

enum mb_status mb_hf_dec(struct mb_tokenizer *t, const json_t *v, const char *path, int depth)
{
    const char *type;
    if (v == NULL || json_is_null(v)) {
        t->decs[t->ndecs++].kind = MB_DEC_JOIN;
        return MB_OK;
    }
    MB_TRY(mb_hf_type(v, path, "decoder", &type));
    if (depth > MB_HF_DEPTH || t->ndecs == MB_DEC_MAX)
        return mb_error(MB_MODEL, "%s: decoder: more than %d steps, or Sequences nested deeper than %d", path,
                        MB_DEC_MAX, MB_HF_DEPTH);
    if (strcmp(type, "Sequence") != 0) {
        struct mb_dec *s = &t->decs[t->ndecs++];
        enum mb_dec_kind before = t->ndecs > 1 ? s[-1].kind : MB_DEC_REPLACE;
        s->fused = t->ndecs > 1 && (s[-1].fused || before == MB_DEC_FUSE || before == MB_DEC_BYTES);
        return dec_step(s, v, type, path);
    }
    const json_t *list = json_object_get(v, "decoders");
    if (!json_is_array(list))
        return mb_error(MB_MODEL, "%s: decoder: decoders: expected a list, found %s", path,
                        mb_json_type(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_is_null(json_array_get(list, i)))
            return mb_error(MB_MODEL, "%s: decoder: decoders: entry %zu is null", path, i);
        MB_TRY(mb_hf_dec(t, json_array_get(list, i), path, depth + 1));
    }
    return MB_OK;
}
