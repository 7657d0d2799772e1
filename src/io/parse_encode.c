/* Stage two of the parser: text to ids. The rules for scoring are those of github.com/EleutherAI/lm-evaluation-harness 0.4.13:
 * TemplateLM.loglikelihood and _encode_pair, HFLM.tok_encode, prefix_token_id, loglikelihood_rolling and _loglikelihood_tokens. */
#include "io/parse_draft.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a request");
}

static enum mb_status put_id(struct mb_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        int64_t cap = ids->cap ? 2 * ids->cap : 16;
        int32_t *v = realloc(ids->v, (size_t)cap * sizeof *v);
        if (v == NULL)
            return no_memory();
        ids->v = v;
        ids->cap = cap;
    }
    ids->v[ids->n++] = id;
    return MB_OK;
}

/* Text that cannot fit whatever its tokens are is refused before anybody looks for them: each stands for longest_token bytes at
 * most, and fourfold leaves room for normalizers that make text shorter. Texts that are scored in windows or cut may be longer,
 * but not so long that looking for their tokens takes the memory of the job. */
static enum mb_status check_bytes(struct mb_draft *d, size_t n)
{
    const struct mb_parse_options *o = d->opt;
    bool longer = d->req->kind == MB_KIND_ROLLING || (d->req->kind == MB_KIND_LOGLIKELIHOOD && o->truncate_left);
    uint64_t most = 0;

    if (o->longest_token <= 0 || !mb_mul_ok((uint64_t)o->max_len, 4 * (uint64_t)o->longest_token, &most))
        most = MB_MAX_SCORED_BYTES;
    if ((longer || o->longest_token <= 0) && most < MB_MAX_SCORED_BYTES)
        most = MB_MAX_SCORED_BYTES;
    if (n <= most)
        return MB_OK;
    if (longer || o->longest_token <= 0)
        return mb_draft_bad(d, "too long: %zu bytes of text; a line takes %llu (split the text, or give token ids)", n,
                            (unsigned long long)most);
    return mb_draft_bad(d, "too long: %zu bytes of text are more than %lld tokens can be, and the model takes no more", n,
                        (long long)o->max_len);
}

/* Text -> ids with the BOS rules of --add-bos. plain: no post-processor (rendered chats bring their own BOS; a continuation
 * after ids has none). */
static enum mb_status encode(struct mb_draft *d, const char *text, size_t n, bool plain, struct mb_ids *out)
{
    const struct mb_parse_options *o = d->opt;

    if (o->tok == NULL)
        return mb_draft_bad(d, "the model has no tokenizer: give token ids (prompt_ids, context_ids and continuation_ids, text_ids)");
    MB_TRY(check_bytes(d, n));
    bool front = o->bos >= 0 && !plain && mb_tokenizer_adds_front(o->tok, o->bos);
    int64_t from = out->n;

    if (o->add_bos == MB_BOS_YES && o->bos >= 0 && !plain && !front)
        MB_TRY(put_id(out, o->bos));
    enum mb_status st = mb_tokenizer_encode(o->tok, text, n, !plain, out);
    if (st == MB_REQUEST)
        return mb_draft_bad(d, "the tokenizer gives up on this text (its pattern needs too many steps)");
    MB_TRY(st);
    if (o->add_bos == MB_BOS_NO && front && out->n > from && out->v[from] == o->bos) {
        memmove(out->v + from, out->v + from + 1, (size_t)(out->n - from - 1) * sizeof *out->v);
        out->n--;
    }
    for (int64_t i = from; i < out->n; i++)
        if (out->v[i] < 0 || out->v[i] >= o->vocab)
            return mb_draft_bad(d, "the text has token %d, which is outside the model's vocabulary, 0 to %d", out->v[i],
                                o->vocab - 1);
    return MB_OK;
}

static enum mb_status put_ids(const json_t *list, struct mb_ids *out)
{
    size_t i;
    json_t *one;

    json_array_foreach((json_t *)list, i, one)
        MB_TRY(put_id(out, (int32_t)json_number_value(one)));
    return MB_OK;
}

static enum mb_status encode_piece(struct mb_draft *d, const struct mb_piece *p, bool plain, struct mb_ids *out)
{
    return p->ids != NULL ? put_ids(p->ids, out) : encode(d, p->text, p->len, plain, out);
}

static enum mb_status put_front(struct mb_ids *ids, int32_t id)
{
    MB_TRY(put_id(ids, 0));
    memmove(ids->v + 1, ids->v, (size_t)(ids->n - 1) * sizeof *ids->v);
    ids->v[0] = id;
    return MB_OK;
}

/* What a text that is scored starts from where nothing is before it; -1: nothing, its first token is not scored then. */
static int32_t prefix_of(const struct mb_parse_options *o)
{
    return o->add_bos == MB_BOS_NO ? -1 : o->prefix;
}

/* A text that is scored. One that brings the prefix token's text itself gets no second BOS from the post-processor. */
static enum mb_status encode_scored(struct mb_draft *d, const char *text, size_t n, struct mb_ids *out)
{
    const struct mb_parse_options *o = d->opt;
    struct mb_bytes front = {0};
    enum mb_status st = o->prefix >= 0 && o->tok != NULL ? mb_tokenizer_decode(o->tok, &o->prefix, 1, false, &front) : MB_OK;
    bool has = front.len > 0 && front.len <= n && memcmp(text, front.data, front.len) == 0;

    mb_bytes_fini(&front);
    return st == MB_OK ? encode(d, text, n, has, out) : st;
}

static enum mb_status encode_prompt(struct mb_draft *d, struct mb_ids *ids)
{
    struct mb_bytes chat = {0};
    char why[300] = "the chat template cannot render these messages";
    enum mb_status st;

    if (d->messages != NULL) {
        struct mb_chat_ask ask = d->ask;
        ask.messages = d->messages;
        ask.extra = d->extra;
        ask.add_generation_prompt = d->ask_given ? ask.add_generation_prompt : !ask.continue_final_message;
        st = d->opt->chat(d->opt->chat_arg, &ask, &chat, why, sizeof why);
        if (st == MB_REQUEST)
            st = mb_draft_bad(d, "%s", why);
        if (st == MB_OK)
            st = encode(d, (const char *)chat.data, chat.len, true, ids);
        mb_bytes_fini(&chat);
    } else {
        st = encode_piece(d, &d->head, d->no_special, ids);
    }
    if (st == MB_OK && ids->n == 0 && d->head.ids == NULL && d->messages == NULL && d->opt->bos >= 0 &&
        d->opt->add_bos != MB_BOS_NO)
        st = put_id(ids, d->opt->bos);
    if (st == MB_OK && ids->n == 0)
        st = mb_draft_bad(d, "the prompt is empty");
    return st;
}

/* Bytes of the white space character that ends at s + n, or 0: what Python's str.rstrip() takes away. */
static size_t space_before(const unsigned char *s, size_t n)
{
    if (n == 0)
        return 0;
    unsigned char c = s[n - 1];
    if ((c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20))
        return 1;
    if (n >= 2 && s[n - 2] == 0xc2 && (c == 0x85 || c == 0xa0))
        return 2;
    if (n < 3)
        return 0;
    uint32_t u = (uint32_t)s[n - 3] << 16 | (uint32_t)s[n - 2] << 8 | c;
    bool space = u == 0xe19a80 || (u >= 0xe28080 && u <= 0xe2808a) || u == 0xe280a8 || u == 0xe280a9 || u == 0xe280af ||
                 u == 0xe2819f || u == 0xe38080;
    return space ? 3 : 0;
}

static size_t without_spaces(const char *s, size_t n)
{
    for (size_t k; (k = space_before((const unsigned char *)s, n)) > 0;)
        n -= k;
    return n;
}

/* The same for what begins at s: str.lstrip(). */
static size_t space_after(const unsigned char *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++)
        if (space_before(s, k) == k)
            return k;
    return 0;
}

/* Nothing before the continuation: it is encoded alone. One that begins with the prefix token has its own. */
static enum mb_status encode_alone(struct mb_draft *d, struct mb_ids *ids, int64_t *split)
{
    int32_t prefix = prefix_of(d->opt);

    MB_TRY(encode(d, d->tail.text, d->tail.len, true, ids));
    *split = prefix >= 0;
    return prefix >= 0 && (ids->n == 0 || ids->v[0] != prefix) ? put_front(ids, prefix) : MB_OK;
}

/* Both as text: the context's own ids, then those of the whole from their number on. */
static enum mb_status encode_pair(struct mb_draft *d, struct mb_ids *ids, int64_t *split)
{
    struct mb_bytes text = {0};
    struct mb_ids whole = {0};
    size_t keep = without_spaces(d->head.text, d->head.len);
    enum mb_status st = mb_bytes_put(&text, d->head.text, d->head.len);

    if (st == MB_OK)
        st = mb_bytes_put(&text, d->tail.text, d->tail.len);
    if (st == MB_OK)
        st = encode_scored(d, (const char *)text.data, text.len, &whole);
    if (st == MB_OK)
        st = encode_scored(d, d->head.text, keep, ids);
    int64_t own = ids->n;
    *split = own;
    if (st == MB_OK && own == 0 && prefix_of(d->opt) >= 0)
        st = put_id(ids, prefix_of(d->opt)), *split = 1;
    for (int64_t i = own; st == MB_OK && i < whole.n; i++)
        st = put_id(ids, whole.v[i]);
    free(whole.v);
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status encode_loglikelihood(struct mb_draft *d, struct mb_ids *ids)
{
    bool text = d->head.ids == NULL;
    int64_t split;

    if (text && d->tail.ids == NULL) {
        MB_TRY(d->head.len > 0 ? encode_pair(d, ids, &split) : encode_alone(d, ids, &split));
    } else {
        /* an empty context before ids is no text at all: ids never get a BOS */
        if (!text || d->head.len > 0)
            MB_TRY(text ? encode_scored(d, d->head.text, d->head.len, ids) : put_ids(d->head.ids, ids));
        split = ids->n;
        MB_TRY(encode_piece(d, &d->tail, true, ids));
    }
    if (split >= ids->n)
        return mb_draft_bad(d, "the continuation has no token of its own: it melts into the context's last one");
    d->req->score_from = split > 1 ? split : 1;
    return MB_OK;
}

/* The prefix token stands in front of a text even where the tokenizer has put a BOS there: that one is scored then. */
static enum mb_status encode_rolling(struct mb_draft *d, struct mb_ids *ids)
{
    bool text = d->head.ids == NULL;

    MB_TRY(text ? encode_scored(d, d->head.text, d->head.len, ids) : put_ids(d->head.ids, ids));
    if (ids->n == 0)
        return mb_draft_bad(d, "the text is empty");
    if (text && prefix_of(d->opt) >= 0)
        MB_TRY(put_front(ids, prefix_of(d->opt)));
    d->req->score_from = 1;
    return MB_OK;
}

static void drop_front(struct mb_ids *ids, int64_t n)
{
    memmove(ids->v, ids->v + n, (size_t)(ids->n - n) * sizeof *ids->v);
    ids->n -= n;
}

/* Generation needs a place for one more token, unless nothing is to be drawn. --truncate left leaves room for all that may be
 * drawn, if the model has it. */
static enum mb_status fit_prompt(struct mb_draft *d, struct mb_ids *ids)
{
    struct mb_request *r = d->req;
    int64_t max = d->opt->max_len, want = r->sampling.max_tokens, most = max - (want < max ? want : 1);

    if (d->opt->truncate_left && ids->n > most)
        drop_front(ids, ids->n - most);
    if (ids->n + (want > 0) > max)
        return mb_draft_bad(d, "too long: %lld prompt tokens leave no place for output; the model takes %lld (--truncate left drops "
                            "the first ones)", (long long)ids->n, (long long)max);
    if (want > max - ids->n)
        r->sampling.max_tokens = max - ids->n;
    r->score_from = ids->n;
    return MB_OK;
}

/* The last token is predicted, so it need not fit; rolling goes on in windows. */
static enum mb_status fit_scored(struct mb_draft *d, struct mb_ids *ids)
{
    struct mb_request *r = d->req;
    int64_t max = d->opt->max_len, drop = ids->n - (max + 1), scored = ids->n - r->score_from;

    if (ids->n > max)
        r->window = max;
    if (r->kind == MB_KIND_ROLLING || drop <= 0)
        return MB_OK;
    if (scored > max)
        return mb_draft_bad(d, "too long: the continuation alone has %lld tokens; the model takes %lld", (long long)scored,
                            (long long)max);
    if (!d->opt->truncate_left)
        return mb_draft_bad(d, "too long: %lld tokens; the model takes %lld and predicts one more (--truncate left drops the first "
                            "ones)", (long long)ids->n, (long long)max);
    drop_front(ids, drop);
    r->score_from -= drop;
    return MB_OK;
}

/* One more sequence of bad words: the word as it is, or behind a space. As vLLM does it, the second form counts only
 * if it begins with another token and has as many. */
static enum mb_status put_bad_word(struct mb_draft *d, const json_t *word, bool spaced, struct mb_ids *all)
{
    struct mb_bad_words *w = &d->req->sampling.bad;
    struct mb_bytes text = {0};
    const char *s = json_string_value(word), *end = s + json_string_length(word);
    int64_t from = all->n, before = w->n > 1 ? w->end[w->n - 2] : 0;

    for (size_t k; s < end && (k = space_after((const unsigned char *)s, (size_t)(end - s))) > 0;)
        s += k;
    enum mb_status st = spaced ? mb_bytes_put(&text, " ", 1) : MB_OK;
    if (st == MB_OK)
        st = mb_bytes_put(&text, s, (size_t)(end - s));
    if (st == MB_OK)
        st = encode(d, text.data != NULL ? (const char *)text.data : "", text.len, true, all);
    mb_bytes_fini(&text);
    MB_TRY(st);
    if (spaced && (w->n == 0 || all->n - from != from - before || all->n == from || all->v[from] == all->v[before]))
        all->n = from;
    if (all->n == from)
        return spaced ? MB_OK : mb_draft_bad(d, "bad_words: \"%.40s\" has no token", json_string_value(word));
    w->end[w->n++] = (int32_t)all->n;
    return MB_OK;
}

static enum mb_status encode_bad_words(struct mb_draft *d)
{
    struct mb_bad_words *w = &d->req->sampling.bad;
    struct mb_ids all = {0};
    enum mb_status st = MB_OK;
    size_t i;
    json_t *word;

    w->end = malloc(MB_MAX_BAD_WORDS * sizeof *w->end);
    if (w->end == NULL)
        return no_memory();
    json_array_foreach((json_t *)d->bad_words, i, word) {
        if (st == MB_OK)
            st = put_bad_word(d, word, false, &all);
        if (st == MB_OK)
            st = put_bad_word(d, word, true, &all);
    }
    w->ids = all.v;
    return st;
}

/* Those of the job, where a line has none of its own. */
static enum mb_status default_stops(struct mb_draft *d)
{
    struct mb_request *r = d->req;

    for (int32_t i = 0; r->kind == MB_KIND_GENERATE && !d->stop_given && i < d->opt->n_stop; i++) {
        r->stop[i].data = strdup(d->opt->stop[i]);
        if (r->stop[i].data == NULL)
            return no_memory();
        r->stop[i].len = strlen(d->opt->stop[i]);
        r->n_stop = i + 1;
    }
    return MB_OK;
}

/* What text needs that is not the prompt. */
static enum mb_status encode_words(struct mb_draft *d)
{
    if (d->opt->tok == NULL && (d->req->n_stop > 0 || d->bad_words != NULL))
        return mb_draft_bad(d, "stop and bad_words: this model has no tokenizer; use stop_token_ids");
    return d->bad_words != NULL ? encode_bad_words(d) : MB_OK;
}

enum mb_status mb_draft_encode(struct mb_draft *d)
{
    struct mb_request *r = d->req;
    struct mb_ids ids = {0};
    enum mb_status st;

    st = default_stops(d);
    if (st == MB_OK)
        st = encode_words(d);
    if (st == MB_OK && r->kind == MB_KIND_GENERATE)
        st = encode_prompt(d, &ids);
    else if (st == MB_OK)
        st = r->kind == MB_KIND_ROLLING ? encode_rolling(d, &ids) : encode_loglikelihood(d, &ids);
    if (st == MB_OK)
        st = r->kind == MB_KIND_GENERATE ? fit_prompt(d, &ids) : fit_scored(d, &ids);
    if (st == MB_OK) {
        r->prompt = mb_alloc(d->opt->mem, MB_MEM_REQUESTS, (size_t)ids.n, sizeof *r->prompt);
        r->n_prompt = ids.n;
        if (r->prompt == NULL)
            st = no_memory();
        else
            memcpy(r->prompt, ids.v, (size_t)ids.n * sizeof *ids.v);
    }
    free(ids.v);
    return st;
}
