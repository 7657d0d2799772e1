#include "text/tokenizer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/utf8.h"
#include "text/tiktoken.h"
#include "text/tok.h"

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static enum mb_status load_file(struct mb_tokenizer *t, const char *path)
{
    if (ends_with(path, "tiktoken.model"))
        return mb_tiktoken_load(t, path);
    return ends_with(path, ".model") ? mb_spm_load(t, path) : mb_hf_load(t, path);
}

/* The one *.model of a directory (tokenizer.model if there is one), malloc'd. */
static enum mb_status find_model(const char *dir, char **out)
{
    char name[256] = "";
    int found = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        if (!ends_with(e->d_name, ".model"))
            continue;
        found++;
        snprintf(name, sizeof name, "%s", e->d_name);
        if (strcmp(name, "tokenizer.model") == 0) {
            found = 1;
            break;
        }
    }
    if (d != NULL)
        closedir(d);
    if (found == 0 && mb_tokenizer_foreign(dir, name))
        return mb_error(MB_MODEL, "%s: expected tokenizer.json or one *.model, found %s, whose form is not read; a tokenizer.json can be "
                        "made of it with transformers (save_pretrained of the fast tokenizer)", dir, name);
    if (found != 1)
        return mb_error(MB_MODEL, "%s: expected tokenizer.json or one *.model, found %s", dir,
                        found == 0 ? "neither" : "several *.model");
    *out = mb_path_join(dir, name);
    return *out == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : MB_OK;
}

bool mb_tokenizer_present(const char *dir)
{
    bool found = false;
    DIR *d = opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL && !found; e = readdir(d))
        found = strcmp(e->d_name, "tokenizer.json") == 0 || ends_with(e->d_name, ".model");
    if (d != NULL)
        closedir(d);
    return found;
}

bool mb_tokenizer_foreign(const char *dir, char name[MB_TOKENIZER_FILE])
{
    static const char *const forms[] = {".tiktoken", "tekken.json", "vocab.json", "vocab.txt", "merges.txt"};
    bool found = false;
    DIR *d = opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL && !found; e = readdir(d)) {
        for (size_t i = 0; i < sizeof forms / sizeof *forms && !found; i++)
            found = ends_with(e->d_name, forms[i]);
        if (found)
            snprintf(name, MB_TOKENIZER_FILE, "%s", e->d_name);
    }
    if (d != NULL)
        closedir(d);
    return found;
}

static enum mb_status load_dir(struct mb_tokenizer *t, const char *dir)
{
    char *path = mb_path_join(dir, "tokenizer.json");
    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    if (!mb_path_exists(path)) {
        free(path);
        path = NULL;
        st = find_model(dir, &path);
    }
    if (st == MB_OK)
        st = load_file(t, path);
    free(path);
    return st;
}

enum mb_status mb_tokenizer_load(const char *path, struct mb_tokenizer **out)
{
    struct stat sb;
    struct mb_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a tokenizer");
    t->bpe.unk = t->uni.unk = -1;
    bool dir = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    enum mb_status st = dir ? load_dir(t, path) : load_file(t, path);
    if (st != MB_OK) {
        mb_tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return MB_OK;
}

void mb_tokenizer_destroy(struct mb_tokenizer *t)
{
    if (t == NULL)
        return;
    mb_vocab_fini(&t->vocab);
    mb_vocab_fini(&t->extra);
    mb_added_fini(&t->raw);
    mb_added_fini(&t->norm);
    for (int i = 0; i < t->nnorms; i++)
        mb_norm_fini(&t->norms[i]);
    for (int i = 0; i < t->npres; i++)
        mb_pre_fini(&t->pres[i]);
    for (int i = 0; i < t->ndecs; i++)
        mb_dec_fini(&t->decs[i]);
    mb_bpe_fini(&t->bpe);
    mb_unigram_fini(&t->uni);
    mb_spm_fini(&t->spm);
    mb_bytes_fini(&t->prefix);
    mb_bytes_fini(&t->suffix);
    free(t->front.v);
    free(t->back.v);
    free(t->special);
    free(t);
}

int32_t mb_tokenizer_size(const struct mb_tokenizer *t)
{
    return t->size;
}

static int64_t longest_of(const struct mb_vocab *v)
{
    int64_t most = 0;

    for (int32_t i = 0; i < v->size; i++) {
        if (v->token[i].present && (int64_t)v->token[i].len > most)
            most = v->token[i].len;
    }
    return most;
}

int64_t mb_tokenizer_longest(const struct mb_tokenizer *t)
{
    int64_t a = longest_of(&t->vocab), b = longest_of(&t->extra);
    return a > b ? a : b;
}

int32_t mb_tokenizer_id(const struct mb_tokenizer *t, const char *token, size_t n)
{
    int32_t id = mb_vocab_find(&t->extra, token, n);
    return id >= 0 ? id : mb_vocab_find(&t->vocab, token, n);
}

bool mb_tokenizer_special(const struct mb_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->special_cap && t->special[id];
}

bool mb_tokenizer_adds_front(const struct mb_tokenizer *t, int32_t id)
{
    for (int64_t i = 0; i < t->front.n; i++) {
        if (t->front.v[i] == id)
            return true;
    }
    return false;
}

/* Cuts the added tokens out of the text as it is, normalises the rest and cuts the others out of that. */
static enum mb_status cut_added(const struct mb_tokenizer *t, struct mb_work *w)
{
    mb_pieces_clear(&w->next);
    for (size_t i = 0; i < w->cur.n; i++)
        MB_TRY(mb_added_cut(&t->raw, &w->cur.text, w->cur.v[i], &w->next));
    mb_work_flip_pieces(w);
    if (t->nnorms == 0 && t->norm.tokens == 0)
        return MB_OK;
    mb_pieces_clear(&w->next);
    for (size_t i = 0; i < w->cur.n; i++) {
        struct mb_piece p = w->cur.v[i];
        size_t off = w->next.text.len;
        const char *s = mb_text_at(&w->cur.text, p.off);
        if (p.id < 0)
            MB_TRY(mb_norm_apply(t->norms, t->nnorms, s, p.len, w, &p.first, &w->next.text));
        p.off = off;
        p.len = w->next.text.len - off;
        if (p.id >= 0)
            MB_TRY(mb_pieces_push(&w->next, p));
        else
            MB_TRY(mb_added_cut(&t->norm, &w->next.text, p, &w->next));
    }
    mb_work_flip(w);
    return MB_OK;
}

/* Words come again and again in a text: a small table remembers the last place of each (by its hash, newest
 * wins). */
#define SEEN_SLOTS 8192
#define SEEN_WORD_MAX 48

static enum mb_status seen_init(struct mb_work *w)
{
    size_t slots = 64;
    while (slots < SEEN_SLOTS && slots < w->cur.n)
        slots *= 2;
    w->seen = calloc(slots, sizeof *w->seen);
    w->seen_mask = slots - 1;
    return w->seen == NULL ? mb_error(MB_NO_MEMORY, "no memory for a table of %zu words", slots) : MB_OK;
}

static enum mb_status encode_word(const struct mb_tokenizer *t, struct mb_work *w, struct mb_piece p,
                                  struct mb_ids *out)
{
    const char *text = mb_text_at(&w->cur.text, 0), *s = mb_text_at(&w->cur.text, p.off);
    if (p.len > SEEN_WORD_MAX)
        return mb_bpe_word(&t->bpe, &t->vocab, s, p.len, w, out);
    struct mb_seen *e = &w->seen[mb_hash64(s, p.len) & w->seen_mask];
    if (e->len == p.len && memcmp(text + e->off, s, p.len) == 0) {
        for (int64_t i = 0; i < e->count; i++)
            MB_TRY(mb_ids_put(out, out->v[e->ids + i]));
        return MB_OK;
    }
    int64_t before = out->n;
    MB_TRY(mb_bpe_word(&t->bpe, &t->vocab, s, p.len, w, out));
    *e = (struct mb_seen){p.off, p.len, before, out->n - before};
    return MB_OK;
}

static enum mb_status encode_pieces(const struct mb_tokenizer *t, struct mb_work *w, struct mb_ids *out)
{
    for (size_t i = 0; i < w->cur.n; i++) {
        struct mb_piece p = w->cur.v[i];
        const char *s = mb_text_at(&w->cur.text, p.off);
        if (p.id >= 0)
            MB_TRY(mb_ids_put(out, p.id));
        else if (t->kind == MB_MODEL_BPE)
            MB_TRY(encode_word(t, w, p, out));
        else if (t->kind == MB_MODEL_UNIGRAM)
            MB_TRY(mb_unigram_word(&t->uni, &t->vocab, s, p.len, w, out));
        else
            MB_TRY(mb_spm_word(t, s, p.len, w, out));
    }
    return MB_OK;
}

static enum mb_status put_all(struct mb_ids *out, const struct mb_ids *ids)
{
    for (int64_t i = 0; i < ids->n; i++)
        MB_TRY(mb_ids_put(out, ids->v[i]));
    return MB_OK;
}

static enum mb_status encode(const struct mb_tokenizer *t, const char *text, size_t n, bool special,
                             struct mb_work *w, struct mb_ids *out)
{
    if (!mb_utf8_valid(text, n))
        return MB_REQUEST;
    MB_TRY(mb_bytes_put(&w->cur.text, text, n));
    MB_TRY(mb_pieces_push(&w->cur, (struct mb_piece){0, n, -1, true}));
    MB_TRY(cut_added(t, w));
    MB_TRY(mb_pre_apply(t->pres, t->npres, w));
    if (special)
        MB_TRY(put_all(out, &t->front));
    MB_TRY(seen_init(w));
    MB_TRY(encode_pieces(t, w, out));
    return special ? put_all(out, &t->back) : MB_OK;
}

enum mb_status mb_tokenizer_encode(const struct mb_tokenizer *t, const char *text, size_t n, bool special,
                                   struct mb_ids *out)
{
    struct mb_work w = {0};
    int64_t before = out->n;
    enum mb_status st = encode(t, text, n, special, &w, out);
    if (st != MB_OK)
        out->n = before;
    mb_work_fini(&w);
    return st;
}
