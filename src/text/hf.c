/* tokenizer.json (HF tokenizers): the vocabulary, the merges and the added tokens; the pipelines are in
 * hf_parts.c and hf_ends.c. */
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "text/hf_parts.h"
#include "base/grow.h"

#define FILE_MAX (256u << 20)

/* Ids may leave gaps, but a single huge id must not make us allocate a table for it. */
static int64_t id_limit(size_t tokens)
{
    int64_t limit = (int64_t)tokens * 4 + 1000000;
    return limit < MB_ID_MAX ? limit : MB_ID_MAX;
}

static enum mb_status load_vocab(struct mb_tokenizer *t, const json_t *model, const char *path)
{
    json_t *vocab = json_object_get(model, "vocab");
    const char *key;
    size_t len;
    json_t *id;
    if (!json_is_object(vocab))
        return mb_error(MB_MODEL, "%s: model: vocab: expected an object, found %s", path,
                        mb_json_type(vocab));
    int64_t limit = id_limit(json_object_size(vocab));
    json_object_keylen_foreach(vocab, key, len, id)
    {
        if (!json_is_integer(id))
            return mb_error(MB_MODEL, "%s: model: vocab: \"%.40s\": expected an integer, found %s", path, key,
                            mb_json_type(id));
        MB_TRY(mb_vocab_add(&t->vocab, json_integer_value(id), key, len, limit, path));
    }
    return MB_OK;
}

/* The two sides of a merge: "a b" or ["a", "b"]. */
static bool merge_sides(const json_t *m, const char *side[2], size_t len[2])
{
    if (json_is_array(m) && json_array_size(m) == 2) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *s = json_array_get(m, i);
            if (!json_is_string(s))
                return false;
            side[i] = json_string_value(s);
            len[i] = json_string_length(s);
        }
        return true;
    }
    if (!json_is_string(m))
        return false;
    const char *s = json_string_value(m), *end = s + json_string_length(m);
    const char *space = memchr(s, ' ', (size_t)(end - s));
    if (space == NULL || memchr(space + 1, ' ', (size_t)(end - space - 1)) != NULL)
        return false;
    side[0] = s;
    len[0] = (size_t)(space - s);
    side[1] = space + 1;
    len[1] = (size_t)(end - space - 1);
    return true;
}

static enum mb_status load_merge(struct mb_tokenizer *t, const json_t *m, size_t rank, const char *path,
                                 struct mb_bytes *made)
{
    const char *side[2];
    size_t len[2], prefix = t->prefix.len;
    if (!merge_sides(m, side, len))
        return mb_error(MB_MODEL, "%s: model: merges: entry %zu is neither \"a b\" nor [\"a\", \"b\"]", path,
                        rank);
    int32_t left = mb_vocab_find(&t->vocab, side[0], len[0]),
            right = mb_vocab_find(&t->vocab, side[1], len[1]);
    made->len = 0;
    MB_TRY(mb_bytes_put(made, side[0], len[0]));
    if (len[1] >= prefix)
        MB_TRY(mb_bytes_put(made, side[1] + prefix, len[1] - prefix));
    int32_t id = mb_vocab_find(&t->vocab, (const char *)made->data, made->len);
    if (left < 0 || right < 0 || id < 0 || len[1] < prefix)
        return mb_error(MB_MODEL,
                        "%s: model: merges: entry %zu: \"%.40s\" + \"%.40s\" are not, or do not make, a "
                        "token of the vocabulary",
                        path, rank, side[0], side[1]);
    return mb_bpe_add(&t->bpe, left, right, id, (uint32_t)rank);
}

static enum mb_status affix(const json_t *model, const char *key, const char *path, struct mb_bytes *out,
                            const struct mb_bytes **use)
{
    const json_t *v = json_object_get(model, key);
    if (v == NULL || json_is_null(v) || json_string_length(v) == 0)
        return MB_OK;
    *use = out;
    return mb_hf_text(model, key, path, "model", out);
}

static enum mb_status unk_token(struct mb_tokenizer *t, const json_t *model, const char *path)
{
    const json_t *unk = json_object_get(model, "unk_token");
    t->bpe.unk = -1;
    if (unk == NULL || json_is_null(unk))
        return MB_OK;
    if (!json_is_string(unk))
        return mb_error(MB_MODEL, "%s: model: unk_token: expected a string, found %s", path,
                        mb_json_type(unk));
    t->bpe.unk = mb_vocab_find(&t->vocab, json_string_value(unk), json_string_length(unk));
    if (t->bpe.unk < 0)
        return mb_error(MB_MODEL, "%s: model: unk_token \"%.40s\" is not in the vocabulary", path,
                        json_string_value(unk));
    return MB_OK;
}

static enum mb_status load_bpe(struct mb_tokenizer *t, const json_t *model, const char *path)
{
    const json_t *merges = json_object_get(model, "merges");
    struct mb_bpe *b = &t->bpe;
    double dropout = 0;
    MB_TRY(load_vocab(t, model, path));
    MB_TRY(mb_json_real(model, "dropout", path, &dropout, NULL));
    if (dropout != 0)
        return mb_error(MB_MODEL, "%s: model: dropout %g is not supported (encoding would be random)", path,
                        dropout);
    MB_TRY(mb_json_bool(model, "fuse_unk", path, &b->fuse_unk, NULL));
    MB_TRY(mb_json_bool(model, "byte_fallback", path, &b->byte_fallback, NULL));
    MB_TRY(mb_json_bool(model, "ignore_merges", path, &b->ignore_merges, NULL));
    MB_TRY(affix(model, "continuing_subword_prefix", path, &t->prefix, &b->prefix));
    MB_TRY(affix(model, "end_of_word_suffix", path, &t->suffix, &b->suffix));
    MB_TRY(unk_token(t, model, path));
    if (!json_is_array(merges))
        return mb_error(MB_MODEL, "%s: model: merges: expected a list, found %s", path, mb_json_type(merges));
    struct mb_bytes made = {0};
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < json_array_size(merges) && st == MB_OK; i++)
        st = load_merge(t, json_array_get(merges, i), i, path, &made);
    mb_bytes_fini(&made);
    mb_bpe_index(b, &t->vocab);
    return st;
}

static enum mb_status load_piece(struct mb_tokenizer *t, const json_t *entry, size_t id, const char *path,
                                 double *min)
{
    const json_t *s = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    if (!json_is_string(s) || !json_is_number(score) || json_array_size(entry) != 2)
        return mb_error(MB_MODEL, "%s: model: vocab: entry %zu is not [piece, score]", path, id);
    double x = json_number_value(score);
    t->uni.score[id] = x;
    *min = x < *min ? x : *min;
    MB_TRY(
        mb_vocab_add(&t->vocab, (int64_t)id, json_string_value(s), json_string_length(s), MB_ID_MAX, path));
    if (json_string_length(s) == 0)
        return MB_OK; /* it can never be found in a text */
    return mb_unigram_insert(&t->uni, json_string_value(s), json_string_length(s), (int32_t)id, path);
}

static enum mb_status load_unigram(struct mb_tokenizer *t, const json_t *model, const char *path)
{
    const json_t *vocab = json_object_get(model, "vocab");
    size_t n = json_array_size(vocab);
    int64_t unk = -1;
    double min = 0;
    t->kind = MB_MODEL_UNIGRAM;
    if (!json_is_array(vocab) || n == 0 || n > MB_ID_MAX)
        return mb_error(MB_MODEL, "%s: model: vocab: expected a list of 1 to %d pieces, found %s", path,
                        MB_ID_MAX, mb_json_type(vocab));
    MB_TRY(mb_json_int(model, "unk_id", 0, (int64_t)n - 1, path, &unk, NULL));
    MB_TRY(mb_json_bool(model, "byte_fallback", path, &t->uni.byte_fallback, NULL));
    t->uni.score = calloc(n, sizeof *t->uni.score);
    if (t->uni.score == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for %zu pieces", path, n);
    for (size_t i = 0; i < n; i++)
        MB_TRY(load_piece(t, json_array_get(vocab, i), i, path, &min));
    t->uni.unk = (int32_t)unk;
    t->uni.unk_score = min - 10; /* the penalty of sentencepiece */
    mb_bpe_byte_ids(&t->vocab, t->uni.byte_id);
    return MB_OK;
}

static enum mb_status load_model(struct mb_tokenizer *t, const json_t *model, const char *path)
{
    const char *type = NULL;
    if (!json_is_object(model))
        return mb_error(MB_MODEL, "%s: model: expected an object, found %s", path, mb_json_type(model));
    MB_TRY(mb_json_str(model, "type", path, &type, NULL));
    if (type == NULL ? json_object_get(model, "merges") != NULL : strcmp(type, "BPE") == 0)
        return load_bpe(t, model, path);
    if (type == NULL ? json_is_array(json_object_get(model, "vocab")) : strcmp(type, "Unigram") == 0)
        return load_unigram(t, model, path);
    return mb_error(MB_MODEL, "%s: model: type \"%.60s\" is not supported (BPE, Unigram)", path,
                    type == NULL ? "(absent)" : type);
}

/* ------------------------------------------------------------------ added tokens */

struct flags {
    bool single_word, lstrip, rstrip, normalized, special;
};

static enum mb_status read_flags(const json_t *v, const char *path, struct flags *f)
{
    MB_TRY(mb_json_bool(v, "single_word", path, &f->single_word, NULL));
    MB_TRY(mb_json_bool(v, "lstrip", path, &f->lstrip, NULL));
    MB_TRY(mb_json_bool(v, "rstrip", path, &f->rstrip, NULL));
    MB_TRY(mb_json_bool(v, "special", path, &f->special, NULL));
    f->normalized = !f->special;
    return mb_json_bool(v, "normalized", path, &f->normalized, NULL);
}

/* Puts the token into the trie it is matched by: its content as it is, or normalised like the text (which is
 * then also what it is decoded to, as in the reference). */
static enum mb_status insert(struct mb_tokenizer *t, const char *s, size_t n, struct flags f, int32_t id,
                             struct mb_work *w, const char *path)
{
    struct mb_added_token token = {id, f.single_word, f.lstrip, f.rstrip};
    if (!f.normalized)
        return mb_added_insert(&t->raw, s, n, token, path);
    struct mb_bytes text = {0};
    bool first = true;
    enum mb_status st = mb_norm_apply(t->norms, t->nnorms, s, n, w, &first, &text);
    if (st == MB_REQUEST)
        st = mb_error(MB_MODEL, "%s: added_tokens: \"%.40s\" cannot be normalised", path, s);
    if (st == MB_OK)
        st = mb_added_insert(&t->norm, (const char *)text.data, text.len, token, path);
    if (st == MB_OK)
        st = mb_vocab_show(&t->extra, id, (const char *)text.data, text.len);
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status add_token(struct mb_tokenizer *t, const json_t *v, int64_t limit, struct mb_work *w,
                                const char *path)
{
    const json_t *content = json_object_get(v, "content"), *number = json_object_get(v, "id");
    struct flags f = {0};
    if (!json_is_string(content) || !json_is_integer(number))
        return mb_error(MB_MODEL, "%s: added_tokens: expected objects with a content and an id", path);
    const char *s = json_string_value(content), *old;
    size_t n = json_string_length(content), old_n;
    int64_t id = json_integer_value(number);
    MB_TRY(read_flags(v, path, &f));
    int32_t in_model = mb_vocab_find(&t->vocab, s, n);
    old = id >= 0 && id < t->vocab.size ? mb_vocab_text(&t->vocab, (int32_t)id, &old_n) : NULL;
    if ((in_model >= 0 && in_model != id) || (old != NULL && in_model != id))
        return mb_error(MB_MODEL,
                        "%s: added_tokens: \"%.40s\" has id %lld, but the vocabulary has it, or that id, "
                        "otherwise",
                        path, s, (long long)id);
    if (n == 0 || mb_vocab_find(&t->extra, s, n) == id)
        return MB_OK;
    MB_TRY(mb_vocab_add(&t->extra, id, s, n, limit, path));
    MB_TRY(insert(t, s, n, f, (int32_t)id, w, path));
    if (f.special) {
        size_t cap = (size_t)t->special_cap;
        MB_TRY(mb_grow_to(&t->special, &cap, (size_t)id + 1, 1));
        memset(t->special + t->special_cap, 0, cap - (size_t)t->special_cap);
        t->special_cap = (int32_t)cap;
        t->special[id] = 1;
    }
    return MB_OK;
}

enum mb_status mb_hf_add_list(struct mb_tokenizer *t, const json_t *list, const char *path)
{
    struct mb_work w = {0};
    enum mb_status st = MB_OK;
    int64_t limit = id_limit((size_t)t->vocab.count + json_array_size(list));
    for (size_t i = 0; i < json_array_size(list) && st == MB_OK; i++)
        st = add_token(t, json_array_get(list, i), limit, &w, path);
    mb_work_fini(&w);
    t->size = t->vocab.size > t->extra.size ? t->vocab.size : t->extra.size;
    return st;
}

static enum mb_status load_all(struct mb_tokenizer *t, const json_t *root, const char *path)
{
    if (!json_is_object(root))
        return mb_error(MB_MODEL, "%s: expected an object, found %s", path, mb_json_type(root));
    MB_TRY(load_model(t, json_object_get(root, "model"), path));
    MB_TRY(mb_hf_norm(t, json_object_get(root, "normalizer"), path, 0));
    json_t *added = NULL;
    MB_TRY(mb_hf_added(t, json_object_get(root, "added_tokens"), path, &added));
    enum mb_status st = mb_hf_add_list(t, added, path);
    json_decref(added);
    MB_TRY(st);
    MB_TRY(mb_hf_pre(t, json_object_get(root, "pre_tokenizer"), path, 0));
    MB_TRY(mb_hf_post(t, json_object_get(root, "post_processor"), path, 0));
    return mb_hf_dec(t, json_object_get(root, "decoder"), path, 0);
}

enum mb_status mb_hf_load(struct mb_tokenizer *t, const char *path)
{
    json_t *root = NULL;
    MB_TRY(mb_json_load(path, FILE_MAX, MB_MODEL, &root));
    enum mb_status st = load_all(t, root, path);
    json_decref(root);
    return st;
}
