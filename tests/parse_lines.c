/* parse_lines TOKENIZER INPUT [score]: what the index and the parser make of every line, one JSON object a line, for
 * tests/check_parse.py. The model it pretends to have: the tokenizer's vocabulary, BOS 0, 1024 positions, adapters "de" and
 * "fr", and a chat template that writes role, content and a newline per message. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "io/index.h"

static enum mb_status render(void *arg, const struct mb_chat_ask *ask, struct mb_bytes *text, char *err, size_t cap)
{
    size_t i;
    json_t *m;
    (void)arg, (void)err, (void)cap;
    json_array_foreach((json_t *)ask->messages, i, m) {
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(content))
            content = role;
        MB_TRY(mb_bytes_put(text, json_string_value(role), json_string_length(role)));
        MB_TRY(mb_bytes_put(text, json_string_value(content), json_string_length(content)));
        MB_TRY(mb_bytes_put(text, "\n", 1));
    }
    return MB_OK;
}

static json_t *ids_of(const int32_t *ids, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *stops_of(const struct mb_request *r)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_stop; i++)
        json_array_append_new(list, json_stringn(r->stop[i].data, r->stop[i].len));
    return list;
}

static void show(const struct mb_request *r)
{
    const struct mb_sampling *s = &r->sampling;
    json_t *o = json_pack("{s:I,s:s%,s:i}", "line", (json_int_t)r->line, "id", r->id.data, r->id.len, "n", r->n);

    if (r->error != NULL) {
        json_object_set_new(o, "error", json_string(r->error));
    } else {
        json_object_set_new(o, "kind", json_integer(r->kind));
        json_object_set_new(o, "ids", ids_of(r->prompt, r->n_prompt));
        json_object_set_new(o, "window", json_integer(r->window));
        json_object_set_new(o, "from", json_integer(r->score_from));
        json_object_set_new(o, "stop", stops_of(r));
        json_object_set_new(o, "ends", ids_of(r->stop_ids, r->n_stop_ids));
        json_object_set_new(o, "only", ids_of(s->allowed, s->n_allowed));
        json_object_set_new(o, "shown", json_pack("[b,b]", r->include_stop, r->keep_special));
        json_object_set_new(o, "adapter", r->adapter ? json_string(r->adapter) : json_null());
        json_t *n = json_pack("{s:f,s:f,s:f,s:i,s:f,s:f,s:f,s:b,s:I,s:I}", "temperature", (double)s->temperature, "top_p",
                              (double)s->top_p, "min_p", (double)s->min_p, "top_k", s->top_k, "repetition_penalty",
                              (double)s->repetition, "frequency_penalty", (double)s->frequency, "presence_penalty",
                              (double)s->presence, "ignore_eos", s->ignore_eos, "max_tokens", (json_int_t)s->max_tokens,
                              "min_tokens", (json_int_t)s->min_tokens);
        json_object_set_new(o, "sampling", n);
        json_object_set_new(o, "seed", s->has_seed ? json_integer((json_int_t)s->seed) : json_null());
        json_object_set_new(o, "logprobs", r->want_logprobs ? json_integer(r->top_n) : json_null());
    }
    char *text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);
    puts(text != NULL ? text : "no JSON");
    free(text);
    json_decref(o);
}

static enum mb_status each(const struct mb_parse_options *parse, const struct mb_index *x, int fd)
{
    const struct mb_input_info *info = mb_index_info(x);
    struct mb_parse_options o = *parse;

    o.format = info->format;
    for (uint64_t i = 0; i < info->lines; i++) {
        struct mb_request *r;
        struct mb_line l;
        mb_index_line(x, i, &l);
        if (l.n == 0)
            continue;
        char *text = malloc(l.len + 1u);
        enum mb_status st = text ? mb_pread_all(fd, text, l.len, l.offset, info->path, MB_IO) : MB_NO_MEMORY;
        if (st == MB_OK && (l.flags & MB_LINE_DUPLICATE))
            st = mb_parse_refused(&o, text, l.len, i, "duplicate id", &r);
        else if (st == MB_OK)
            st = mb_parse_line(&o, text, l.len, i, &r);
        free(text);
        MB_TRY(st);
        if (r->n != l.n)
            printf("{\"line\":%d,\"error\":\"rows differ from the index: %d, %d\"}\n", (int)i, r->n, l.n);
        show(r);
        mb_request_destroy(r);
    }
    return MB_OK;
}

int main(int argc, char **argv)
{
    static const char *const adapters[] = {"de", "fr"};
    struct mb_tokenizer *tok;
    struct mb_parse_options parse;
    struct mb_index *x;

    if (argc < 3 || mb_tokenizer_load(argv[1], &tok) != MB_OK)
        return 2;
    mb_parse_options_init(&parse);
    parse.tok = tok;
    parse.vocab = mb_tokenizer_size(tok);
    parse.max_len = 1024;
    parse.bos = parse.prefix = 0;
    parse.score = argc > 3;
    parse.chat = render;
    parse.adapters = adapters;
    parse.n_adapters = 2;
    struct mb_index_options io = {.path = argv[2], .spool_dir = ".", .parse = &parse, .shards = 1};
    if (mb_index_create(&io, &x) != MB_OK)
        return 2;
    int fd = open(mb_index_info(x)->path, O_RDONLY | O_CLOEXEC);
    enum mb_status st = fd >= 0 ? each(&parse, x, fd) : MB_IO;
    if (fd >= 0)
        close(fd);
    mb_index_destroy(x);
    mb_tokenizer_destroy(tok);
    return mb_status_exit(st);
}
