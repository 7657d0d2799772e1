#include "app/text.h"

#include <stdio.h>
#include "text/special.h"

enum mb_status mb_app_tokenizer(struct mb_model *m, const char *dir, struct mb_tokenizer **out)
{
    int32_t id = -1;
    *out = NULL;
    if (!mb_tokenizer_present(dir))
        return MB_OK;
    MB_TRY(mb_tokenizer_load(dir, out));
    MB_TRY(mb_special_eos(dir, *out, &id));
    return id >= 0 ? mb_model_add_eos(m, id) : MB_OK;
}

enum mb_status mb_app_text_report(struct mb_model *m, const char *dir, bool quiet)
{
    struct mb_tokenizer *t = NULL;
    struct mb_chat *chat = NULL;
    char file[MB_TOKENIZER_FILE];
    enum mb_status st = mb_app_tokenizer(m, dir, &t);
    if (st == MB_OK && t != NULL)
        st = mb_chat_load(dir, &chat);
    if (st == MB_OK && !quiet && t == NULL && mb_tokenizer_foreign(dir, file))
        printf("tokenizer : none (the form of %s is not read); only requests given as token ids can run\n", file);
    else if (st == MB_OK && !quiet && t == NULL)
        printf("tokenizer : none; only requests given as token ids can run\n");
    else if (st == MB_OK && !quiet)
        printf("tokenizer : %d ids; chat template: %s\n", mb_tokenizer_size(t),
               chat == NULL ? "none" : mb_chat_flaw(chat) != NULL ? mb_chat_flaw(chat) : "yes");
    mb_chat_destroy(chat);
    mb_tokenizer_destroy(t);
    return st;
}

/* Every id behind the one before it; what comes first in a text may lose a space, so one goes ahead. */
static enum mb_status put_all(const struct mb_tokenizer *t, struct mb_decoder *d, int32_t n, struct mb_bytes *text, int64_t *at)
{
    int32_t size = mb_tokenizer_size(t), first = 0;

    while (first < size && mb_tokenizer_special(t, first))
        first++;
    mb_decoder_mode(d, false, true);
    MB_TRY(mb_decoder_context(d, &first, 1));
    at[0] = (int64_t)text->len;
    for (int32_t i = 0; i < n; i++) {
        if (i < size && !mb_tokenizer_special(t, i))
            MB_TRY(mb_decoder_put(d, i, text));
        at[i + 1] = (int64_t)text->len;
    }
    return MB_OK;
}

enum mb_status mb_app_token_bytes(void *arg, int32_t n, struct mb_bytes *text, int64_t *at)
{
    struct mb_decoder *d;

    MB_TRY(mb_decoder_create(arg, &d));
    enum mb_status st = put_all(arg, d, n, text, at);
    mb_decoder_destroy(d);
    return st;
}
