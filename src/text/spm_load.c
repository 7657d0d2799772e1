/* Reading a sentencepiece *.model: a protobuf message (sentencepiece_model.proto). Only the fields below
 * matter; others are skipped, as protobuf readers do. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/grow.h"
#include "text/tok.h"
#include "base/utf8.h"

#define FILE_MAX (256u << 20)
#define PIECE_MAX 1024 /* bytes; trained pieces have some dozens */

/* ------------------------------------------------------------------ protobuf */

struct pb {
    const uint8_t *p, *end;
};
struct field {
    uint32_t number, wire; /* wire type 0: number; 1: 8 bytes; 2: bytes; 5: 4 bytes */
    uint64_t value;
    struct pb bytes;
};

static bool varint(struct pb *b, uint64_t *out)
{
    uint64_t x = 0;
    for (int shift = 0; shift < 64 && b->p < b->end; shift += 7) {
        uint8_t c = *b->p++;
        x |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = x;
            return true;
        }
    }
    return false;
}

static bool fixed(struct pb *b, int bytes, uint64_t *out)
{
    if (b->end - b->p < bytes)
        return false;
    *out = 0;
    for (int i = 0; i < bytes; i++)
        *out |= (uint64_t)b->p[i] << (8 * i);
    b->p += bytes;
    return true;
}

/* The next field of a message; false: damaged. */
static bool next_field(struct pb *b, struct field *f)
{
    uint64_t tag, len;
    if (!varint(b, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return false;
    f->number = (uint32_t)(tag >> 3);
    f->wire = (uint32_t)(tag & 7);
    f->bytes = (struct pb){NULL, NULL};
    f->value = 0;
    switch (f->wire) {
    case 0:
        return varint(b, &f->value);
    case 1:
        return fixed(b, 8, &f->value);
    case 5:
        return fixed(b, 4, &f->value);
    case 2:
        if (!varint(b, &len) || len > (uint64_t)(b->end - b->p))
            return false;
        f->bytes = (struct pb){b->p, b->p + len};
        b->p += len;
        return true;
    default:
        return false;
    }
}

/* ------------------------------------------------------------------ the message */

struct piece {
    struct pb text;
    float score;
    int type;
};
struct spm_file {
    const char *path;
    struct piece *v;
    size_t n, cap;
    int64_t model_type;
    struct pb map, unk_text;
    bool dummy_prefix, strip_spaces, escape_spaces, suffix_space, byte_fallback;
};

static enum mb_status damaged(const struct spm_file *f, const char *where)
{
    return mb_error(MB_MODEL, "%s: not a sentencepiece model, or damaged (%s)", f->path, where);
}

static enum mb_status read_piece(struct spm_file *f, struct pb b)
{
    struct piece p = {.type = MB_SPM_NORMAL};
    struct field x;
    while (b.p < b.end) {
        if (!next_field(&b, &x))
            return damaged(f, "a piece");
        if (x.number == 1 && x.wire == 2) {
            p.text = x.bytes;
        } else if (x.number == 2 && x.wire == 5) {
            uint32_t bits = (uint32_t)x.value;
            memcpy(&p.score, &bits, 4);
        } else if (x.number == 3 && x.wire == 0) {
            p.type = x.value <= MB_SPM_BYTE ? (int)x.value : 0;
        }
    }
    if (p.type == 0 || !isfinite(p.score))
        return mb_error(MB_MODEL, "%s: piece %zu: its type or score is not possible", f->path, f->n);
    if (f->n >= MB_ID_MAX)
        return mb_error(MB_MODEL, "%s: more than %d pieces", f->path, MB_ID_MAX);
    MB_TRY(mb_grow_to(&f->v, &f->cap, f->n + 1, sizeof *f->v));
    f->v[f->n++] = p;
    return MB_OK;
}

static enum mb_status read_trainer(struct spm_file *f, struct pb b)
{
    struct field x;
    while (b.p < b.end) {
        if (!next_field(&b, &x))
            return damaged(f, "trainer_spec");
        if (x.number == 3 && x.wire == 0)
            f->model_type = (int64_t)x.value;
        else if (x.number == 24 && x.wire == 0)
            f->suffix_space = x.value != 0;
        else if (x.number == 35 && x.wire == 0)
            f->byte_fallback = x.value != 0;
        else if (x.number == 44 && x.wire == 2)
            f->unk_text = x.bytes;
    }
    return MB_OK;
}

static enum mb_status read_normalizer(struct spm_file *f, struct pb b, bool denormalizer)
{
    struct field x;
    while (b.p < b.end) {
        if (!next_field(&b, &x))
            return damaged(f, "normalizer_spec");
        if (denormalizer && x.number == 2 && x.bytes.p != x.bytes.end)
            return mb_error(MB_MODEL, "%s: a denormalizer_spec with a character map is not supported",
                            f->path);
        if (denormalizer)
            continue;
        if (x.number == 2 && x.wire == 2)
            f->map = x.bytes;
        else if (x.number == 3 && x.wire == 0)
            f->dummy_prefix = x.value != 0;
        else if (x.number == 4 && x.wire == 0)
            f->strip_spaces = x.value != 0;
        else if (x.number == 5 && x.wire == 0)
            f->escape_spaces = x.value != 0;
    }
    return MB_OK;
}

static enum mb_status read_model(struct spm_file *f, struct pb b)
{
    struct field x;
    while (b.p < b.end) {
        if (!next_field(&b, &x))
            return damaged(f, "the outermost message");
        if (x.number == 1 && x.wire == 2)
            MB_TRY(read_piece(f, x.bytes));
        else if (x.number == 2 && x.wire == 2)
            MB_TRY(read_trainer(f, x.bytes));
        else if (x.number == 3 && x.wire == 2)
            MB_TRY(read_normalizer(f, x.bytes, false));
        else if (x.number == 5 && x.wire == 2)
            MB_TRY(read_normalizer(f, x.bytes, true));
    }
    return f->n > 0 ? MB_OK : damaged(f, "no pieces");
}

/* ------------------------------------------------------------------ the tokenizer */

static bool in_text(int type)
{
    return type == MB_SPM_NORMAL || type == MB_SPM_USER_DEFINED || type == MB_SPM_UNUSED;
}

static enum mb_status load_pieces(struct mb_tokenizer *t, const struct spm_file *f)
{
    struct mb_spm *m = &t->spm;
    m->unk = m->bos = m->eos = -1;
    m->type = malloc(f->n);
    t->special = calloc(f->n, 1);
    if (m->type == NULL || t->special == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for %zu pieces", f->path, f->n);
    t->special_cap = (int32_t)f->n;
    for (size_t i = 0; i < f->n; i++) {
        const char *s = (const char *)f->v[i].text.p;
        size_t n = (size_t)(f->v[i].text.end - f->v[i].text.p);
        int type = f->v[i].type;
        if (n == 0 || n > PIECE_MAX || !mb_utf8_valid(s, n))
            return mb_error(MB_MODEL, "%s: piece %zu: %zu bytes, or invalid UTF-8", f->path, i, n);
        MB_TRY(mb_vocab_add(&t->vocab, (int64_t)i, s, n, MB_ID_MAX, f->path));
        m->type[i] = (uint8_t)type;
        t->special[i] = type == MB_SPM_CONTROL || type == MB_SPM_UNKNOWN;
        if (type == MB_SPM_UNKNOWN && m->unk >= 0)
            return mb_error(MB_MODEL, "%s: two unknown pieces", f->path);
        if (type == MB_SPM_UNKNOWN)
            m->unk = (int32_t)i;
        if (type == MB_SPM_USER_DEFINED)
            MB_TRY(mb_added_insert(&m->user, s, n, (struct mb_added_token){.id = (int32_t)i}, f->path));
    }
    t->size = (int32_t)f->n;
    m->bos = mb_vocab_find(&t->vocab, "<s>", 3);
    m->eos = mb_vocab_find(&t->vocab, "</s>", 4);
    return m->unk >= 0 ? MB_OK : mb_error(MB_MODEL, "%s: no unknown piece", f->path);
}

/* Unigram scores: user-defined symbols get a bonus by their length, whatever the file says (sentencepiece 0.2). */
static enum mb_status load_unigram(struct mb_tokenizer *t, const struct spm_file *f)
{
    struct mb_unigram *u = &t->uni;
    float min = 3.402823466e+38f;
    t->kind = MB_MODEL_UNIGRAM;
    u->single = true;
    u->byte_fallback = f->byte_fallback;
    u->unk = t->spm.unk;
    u->score = calloc(f->n, sizeof *u->score);
    if (u->score == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for %zu pieces", f->path, f->n);
    for (size_t i = 0; i < f->n; i++) {
        if (f->v[i].type != MB_SPM_NORMAL)
            continue;
        min = f->v[i].score < min ? f->v[i].score : min;
    }
    for (size_t i = 0; i < f->n; i++) {
        const char *s = (const char *)f->v[i].text.p;
        size_t n = (size_t)(f->v[i].text.end - f->v[i].text.p);
        int type = f->v[i].type;
        u->score[i] = type == MB_SPM_USER_DEFINED ? (double)(float)((double)n * 0.1 - 0.1) : (double)f->v[i].score;
        if (type == MB_SPM_NORMAL || type == MB_SPM_USER_DEFINED)
            MB_TRY(mb_unigram_insert(u, s, n, (int32_t)i, f->path));
    }
    u->unk_score = (double)(min - 10.0f);
    mb_bpe_byte_ids(&t->vocab, u->byte_id);
    return MB_OK;
}

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The symbol that a part of a piece is: a piece, or a single character that is none (which gets an id of its
 * own, for it can still be half of a merge), or -1. */
static enum mb_status part_id(struct mb_spm *m, const char *s, size_t n, const char *path, int32_t *id)
{
    uint32_t cp;
    *id = mb_vocab_find(&m->pieces, s, n);
    if (*id >= 0 || (size_t)mb_utf8_next(s, &cp) != n)
        return MB_OK;
    *id = m->pieces.size;
    return mb_vocab_add(&m->pieces, *id, s, n, INT32_MAX / 2, path);
}

/* Every way to make a piece from two symbols is a merge; its rank is that of the piece's score. */
static enum mb_status load_merges(struct mb_tokenizer *t, const char *path, int32_t id, uint32_t rank)
{
    size_t n;
    struct mb_spm *m = &t->spm;
    const char *s = mb_vocab_text(&t->vocab, id, &n);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int32_t left, right;
        i += (size_t)mb_utf8_next(s + i, &cp);
        if (i == n)
            break;
        MB_TRY(part_id(m, s, i, path, &left));
        MB_TRY(part_id(m, s + i, n - i, path, &right));
        if (left >= 0 && right >= 0)
            MB_TRY(mb_bpe_add(&t->bpe, left, right, id, rank));
    }
    return MB_OK;
}

static enum mb_status load_bpe(struct mb_tokenizer *t, const struct spm_file *f)
{
    t->kind = MB_MODEL_SPM_BPE;
    struct scored *order = malloc(f->n * sizeof *order);
    size_t n = 0;
    enum mb_status st =
        order == NULL ? mb_error(MB_NO_MEMORY, "%s: no memory for %zu pieces", f->path, f->n) : MB_OK;
    for (size_t i = 0; i < f->n && st == MB_OK; i++) {
        size_t len;
        if (f->v[i].type == MB_SPM_UNUSED)
            st = mb_error(MB_MODEL, "%s: piece %zu: unused pieces in a BPE model are not supported", f->path,
                          i);
        if (!in_text(f->v[i].type) || st != MB_OK)
            continue;
        order[n++] = (struct scored){f->v[i].score, (int32_t)i};
        const char *s = mb_vocab_text(&t->vocab, (int32_t)i, &len);
        st = mb_vocab_add(&t->spm.pieces, (int64_t)i, s, len, MB_ID_MAX, f->path);
    }
    if (st == MB_OK)
        qsort(order, n, sizeof *order, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < n && st == MB_OK; i++) {
        rank += i > 0 && order[i].score != order[i - 1].score;
        st = load_merges(t, f->path, order[i].id, rank);
    }
    free(order);
    mb_bpe_byte_ids(&t->vocab, t->bpe.byte_id);
    return st;
}

/* ------------------------------------------------------------------ tokens beside the model */

/* A token that is cut out of a text before the model sees it. Ids behind the pieces are the vocabulary's own to give. */
static enum mb_status add_special(struct mb_tokenizer *t, int64_t id, const char *s, size_t n, struct mb_added_token token, bool special,
                                  const char *path)
{
    size_t cap = (size_t)t->special_cap, old_n;
    const char *old = id >= 0 && id < t->vocab.size ? mb_vocab_text(&t->vocab, (int32_t)id, &old_n) : NULL;
    if (n == 0)
        return MB_OK;
    if (old != NULL && (old_n != n || memcmp(old, s, n) != 0))
        return mb_error(MB_MODEL, "%s: token \"%.40s\" has id %lld, which the model gives to another piece", path, s, (long long)id);
    if (mb_vocab_find(&t->extra, s, n) < 0 && mb_vocab_text(&t->extra, (int32_t)(id < MB_ID_MAX ? id : -1), &old_n) == NULL)
        MB_TRY(mb_vocab_add(&t->extra, id, s, n, (int64_t)t->vocab.size + 1000000, path));
    if (mb_vocab_find(&t->extra, s, n) != id)
        return mb_error(MB_MODEL, "%s: token \"%.40s\" has two ids", path, s);
    token.id = (int32_t)id;
    MB_TRY(mb_added_insert(&t->raw, s, n, token, path));
    if (id >= t->special_cap) {
        MB_TRY(mb_grow_to(&t->special, &cap, (size_t)id + 1, 1));
        memset(t->special + t->special_cap, 0, cap - (size_t)t->special_cap);
        t->special_cap = (int32_t)cap;
    }
    t->special[id] = special;
    t->size = t->size > id + 1 ? t->size : (int32_t)id + 1;
    return MB_OK;
}

static enum mb_status add_pieces(struct mb_tokenizer *t, const char *path)
{
    for (int32_t i = 0; i < t->vocab.size; i++) {
        size_t n;
        const char *s = mb_vocab_text(&t->vocab, i, &n);
        if (t->spm.type[i] == MB_SPM_CONTROL || t->spm.type[i] == MB_SPM_UNKNOWN)
            MB_TRY(add_special(t, i, s, n, (struct mb_added_token){0}, true, path));
    }
    return MB_OK;
}

/* {"700": {"content": "<|im_start|>", "special": true, ...}, ...} */
static enum mb_status add_decoder(struct mb_tokenizer *t, const json_t *list, const char *path)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)list, key, v) {
        char *end;
        long long id = strtoll(key, &end, 10);
        const json_t *text = json_object_get(v, "content");
        struct mb_added_token token = {0};
        bool special = true;
        if (*end != 0 || id < 0 || id >= MB_ID_MAX || !json_is_string(text))
            return mb_error(MB_MODEL, "%s: added_tokens_decoder: \"%.40s\" is no id with a content", path, key);
        MB_TRY(mb_json_bool(v, "lstrip", path, &token.lstrip, NULL));
        MB_TRY(mb_json_bool(v, "rstrip", path, &token.rstrip, NULL));
        MB_TRY(mb_json_bool(v, "single_word", path, &token.single_word, NULL));
        MB_TRY(mb_json_bool(v, "special", path, &special, NULL));
        MB_TRY(add_special(t, id, json_string_value(text), json_string_length(text), token, special, path));
    }
    return MB_OK;
}

/* added_tokens.json: {"<|im_end|>": 700, ...} */
static enum mb_status add_file(struct mb_tokenizer *t, const char *path)
{
    const char *key;
    size_t len;
    json_t *root = NULL, *v;
    enum mb_status st = MB_OK;
    if (!mb_path_exists(path))
        return MB_OK;
    MB_TRY(mb_json_load(path, FILE_MAX, MB_MODEL, &root));
    json_object_keylen_foreach(root, key, len, v) {
        int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (st == MB_OK && (id < 0 || id >= MB_ID_MAX))
            st = mb_error(MB_MODEL, "%s: \"%.40s\" has no id", path, key);
        if (st == MB_OK)
            st = add_special(t, id, key, len, (struct mb_added_token){0}, true, path);
    }
    json_decref(root);
    return st;
}

/* As HF's tokenizers for sentencepiece models have it: control pieces, and the tokens named beside the model. */
static enum mb_status load_specials(struct mb_tokenizer *t, const json_t *config, const char *path)
{
    const json_t *decoder = json_object_get(config, "added_tokens_decoder");
    char *file = NULL;
    bool legacy = false;
    MB_TRY(mb_json_bool(config, "legacy", path, &legacy, NULL));
    t->spm.first_only = !legacy;
    MB_TRY(add_pieces(t, path));
    if (json_is_object(decoder))
        return add_decoder(t, decoder, path);
    if (asprintf(&file, "%.*sadded_tokens.json", (int)(strlen(path) - strlen("tokenizer_config.json")), path) < 0)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = add_file(t, file);
    free(file);
    return st;
}

/* BOS and EOS as the tokenizer_config.json beside the model says; sentencepiece itself adds none. Llama's
 * tokenizer class adds BOS unless told otherwise. */
static enum mb_status load_ends(struct mb_tokenizer *t, const char *path)
{
    const char *slash = strrchr(path, '/'), *class = "";
    char *config = NULL;
    json_t *root = NULL;
    int k = slash == NULL ? asprintf(&config, "tokenizer_config.json")
                          : asprintf(&config, "%.*s/tokenizer_config.json", (int)(slash - path), path);
    if (k < 0)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    bool eos = false, bos = false;
    if (mb_path_exists(config))
        st = mb_json_load(config, FILE_MAX, MB_MODEL, &root);
    if (st == MB_OK && root != NULL)
        st = mb_json_str(root, "tokenizer_class", config, &class, NULL);
    bos = strncmp(class, "Llama", 5) == 0;
    if (st == MB_OK && root != NULL)
        st = mb_json_bool(root, "add_bos_token", config, &bos, NULL);
    if (st == MB_OK && root != NULL)
        st = mb_json_bool(root, "add_eos_token", config, &eos, NULL);
    if (st == MB_OK && bos && t->spm.bos >= 0)
        st = mb_ids_put(&t->front, t->spm.bos);
    if (st == MB_OK && eos && t->spm.eos >= 0)
        st = mb_ids_put(&t->back, t->spm.eos);
    if (st == MB_OK && root != NULL)
        st = load_specials(t, root, config);
    json_decref(root);
    free(config);
    return st;
}

static enum mb_status build(struct mb_tokenizer *t, const struct spm_file *f)
{
    struct mb_spm *m = &t->spm;
    m->dummy_prefix = f->dummy_prefix;
    m->strip_spaces = f->strip_spaces;
    m->escape_spaces = f->escape_spaces;
    m->suffix_space = f->suffix_space;
    m->byte_fallback = f->byte_fallback;
    MB_TRY(load_pieces(t, f));
    if (f->map.p != f->map.end) {
        MB_TRY(mb_charsmap_init(&m->map, f->map.p, (size_t)(f->map.end - f->map.p), false, f->path));
        m->has_map = true;
    }
    MB_TRY(mb_bytes_put(&m->unk_text, f->unk_text.p, (size_t)(f->unk_text.end - f->unk_text.p)));
    if (!mb_utf8_valid((char *)m->unk_text.data, m->unk_text.len))
        return damaged(f, "unk_surface");
    if (f->model_type != 1 && f->model_type != 2)
        return mb_error(MB_MODEL, "%s: model_type %lld is not supported (1 unigram, 2 BPE)", f->path,
                        (long long)f->model_type);
    MB_TRY(f->model_type == 1 ? load_unigram(t, f) : load_bpe(t, f));
    const int32_t *bytes = f->model_type == 1 ? t->uni.byte_id : t->bpe.byte_id;
    for (int i = 0; i < 256 && f->byte_fallback; i++) {
        if (bytes[i] < 0)
            return mb_error(MB_MODEL, "%s: byte_fallback without a piece <0x%02X>", f->path, i);
    }
    t->norms[t->nnorms++] = (struct mb_norm){.kind = MB_NORM_SPM, .spm = m};
    t->decs[t->ndecs++].kind = MB_DEC_SPM;
    return load_ends(t, f->path);
}

enum mb_status mb_spm_load(struct mb_tokenizer *t, const char *path)
{
    static const uint8_t unk_text[] = " \xe2\x81\x87 ";
    struct spm_file f = {.path = path,
                         .model_type = 1,
                         .unk_text = {unk_text, unk_text + 5},
                         .dummy_prefix = true,
                         .strip_spaces = true,
                         .escape_spaces = true};
    struct mb_bytes data = {0};
    enum mb_status st = mb_file_read(path, FILE_MAX, MB_MODEL, &data);
    if (st == MB_OK)
        st = read_model(&f, (struct pb){data.data, data.data + data.len});
    if (st == MB_OK)
        st = build(t, &f);
    free(f.v);
    mb_bytes_fini(&data);
    return st;
}
