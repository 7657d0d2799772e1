#include "files.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "guide/guide.h"
#include "io/journal.h"
#include "io/parse.h"
#include "job/record.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

#define CONFIGS 4 /* tests/fuzz/seeds/model */
#define SPARSE_MAX (1u << 20)

static struct {
    char top[1024], work[1024];
    struct mb_tokenizer *tok;
    struct mb_chat *chat;
    json_t *messages, *tools, *tokens;
} state;

static struct mb_bytes read_top(const char *name)
{
    char path[2200];
    struct mb_bytes b = {0};
    snprintf(path, sizeof path, "%s/%s", state.top, name);
    if (mb_file_read(path, 1 << 28, MB_IO, &b) != MB_OK)
        abort();
    return b;
}

static const char *in_work(char buf[2200], const char *name)
{
    snprintf(buf, 2200, "%s/%s", state.work, name);
    return buf;
}

/* ---------------------------------------------------------------- models */
/* A seed of the weights target: the head of a safetensors file, which config, the size of its data (which is never read). */
static uint64_t weights_size(const uint8_t *data, size_t n, int *config)
{
    uint32_t size = 0;
    *config = 0;
    if (n < 5)
        return n;
    for (size_t i = 1; i <= 4; i++)
        size = size << 8 | data[n - i];
    *config = data[n - 5] % CONFIGS;
    return n - 5 + size % SPARSE_MAX;
}

static void make_models(void)
{
    char dir[2200], path[2300], shared[2200], name[64];
    struct mb_bytes b;
    int config;

    fuzz_dir(state.work);
    in_work(shared, "weights.safetensors");
    fuzz_file(shared, "", 0, 0);
    for (int i = 0; i < CONFIGS; i++) {
        snprintf(name, sizeof name, "weights%d", i);
        fuzz_dir(in_work(dir, name));
        snprintf(name, sizeof name, "tests/fuzz/seeds/model/%d.json", i);
        b = read_top(name);
        snprintf(path, sizeof path, "%s/config.json", dir);
        fuzz_file(path, b.data, b.len, b.len);
        mb_bytes_fini(&b);
        snprintf(path, sizeof path, "%s/model.safetensors", dir);
        fuzz_link(shared, path);
    }
    fuzz_dir(in_work(dir, "config"));
    b = read_top("tests/fuzz/seeds/weights/0");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    fuzz_file(path, b.data, b.len - 5, weights_size(b.data, b.len, &config));
    mb_bytes_fini(&b);
}

static bool open_model(const char *dir)
{
    struct mb_model *m = NULL, *copy = NULL;
    struct mb_bytes flat = {0};
    bool ok = mb_model_open(dir, 0, &m) == MB_OK;

    if (ok) {
        /* what rank 0 sends must be what the others understand */
        if (mb_model_pack(m, &flat) != MB_OK || mb_model_unpack(flat.data, flat.len, &copy) != MB_OK)
            abort();
        free(mb_model_json(copy));
    }
    mb_bytes_fini(&flat);
    mb_model_destroy(copy);
    mb_model_destroy(m);
    return ok;
}

static void run_weights(const uint8_t *data, size_t n)
{
    char buf[2200], name[64];
    int config;
    uint64_t size = weights_size(data, n, &config);
    fuzz_file(in_work(buf, "weights.safetensors"), data, n < 5 ? n : n - 5, size);
    snprintf(name, sizeof name, "weights%d", config);
    open_model(in_work(buf, name));
}

/* The length word says where the JSON text ends. */
static void mend_weights(uint8_t *data, size_t n)
{
    int depth = 0;
    bool in_text = false;
    for (size_t i = 8; i + 5 < n; i++) {
        uint8_t c = data[i];
        if (in_text) {
            i += c == '\\';
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '}') {
            depth += c == '{' ? 1 : -1;
            for (int k = 0; depth == 0 && k < 8; k++)
                data[k] = (uint8_t)((uint64_t)(i + 1 - 8) >> (8 * k));
            if (depth == 0)
                return;
        }
    }
}

/* The config alone describes any architecture; with files it has to be the one they are of. */
static void run_config(const uint8_t *data, size_t n)
{
    char buf[2200];
    fuzz_file(in_work(buf, "config/config.json"), data, n, n);
    if (open_model(buf))
        open_model(in_work(buf, "config"));
}

/* ---------------------------------------------------------------- tokenizers */
/* Whole and incremental decoding must agree. */
static void decode(const struct mb_tokenizer *t, const struct mb_ids *ids)
{
    struct mb_bytes whole = {0}, parts = {0};
    struct mb_decoder *d = NULL;

    enum mb_status st = mb_tokenizer_decode(t, ids->v, ids->n, false, &whole);
    if (st == MB_REQUEST) { /* Replace steps that make too much of it */
        mb_bytes_fini(&whole);
        return;
    }
    if (st != MB_OK)
        abort();
    whole.len = 0;
    if (mb_tokenizer_decode(t, ids->v, ids->n, true, &whole) != MB_OK || mb_decoder_create(t, &d) != MB_OK)
        abort();
    for (int64_t i = 0; i < ids->n; i++) {
        if (mb_decoder_put(d, ids->v[i], &parts) != MB_OK)
            abort();
    }
    if (mb_decoder_finish(d, &parts) != MB_OK || whole.len != parts.len ||
        (whole.len > 0 && memcmp(whole.data, parts.data, whole.len) != 0))
        abort();
    mb_decoder_destroy(d);
    mb_bytes_fini(&whole);
    mb_bytes_fini(&parts);
}

static void use_tokenizer(const char *path)
{
    static const char text[] = "In the  beginning A\xcc\x81\xc3\xa9 \xe4\xb8\xad 123 <s>\n\xf0\x9f\x98\x80";
    struct mb_tokenizer *t = NULL;
    struct mb_ids ids = {0};

    if (mb_tokenizer_load(path, &t) != MB_OK)
        return;
    if (mb_tokenizer_encode(t, text, sizeof text - 1, true, &ids) == MB_OK)
        decode(t, &ids);
    free(ids.v);
    ids = (struct mb_ids){0};
    ids.v = malloc(48 * sizeof *ids.v);
    for (int32_t i = 0; ids.v != NULL && i < 48; i++) /* forwards, then every third */
        ids.v[ids.n++] = i < 32 ? i - 1 : 3 * (i - 32);
    decode(t, &ids);
    free(ids.v);
    mb_tokenizer_destroy(t);
}

static void run_tokenizer(const uint8_t *data, size_t n)
{
    char buf[2200];
    fuzz_file(in_work(buf, "tokenizer.json"), data, n, n);
    use_tokenizer(buf);
}

static void run_spm(const uint8_t *data, size_t n)
{
    char buf[2200];
    fuzz_file(in_work(buf, "tokenizer.model"), data, n, n);
    use_tokenizer(buf);
}

/* ---------------------------------------------------------------- requests and templates */
static enum mb_status render(void *arg, const struct mb_chat_ask *ask, struct mb_bytes *text, char *err, size_t cap)
{
    return mb_chat_render(arg, ask, err, cap, text);
}

static void run_request(const uint8_t *data, size_t n)
{
    static const char *const adapters[] = {"a", "b"};
    struct mb_parse_options o;
    struct mb_request *r = NULL;
    struct mb_line_scan scan;
    mb_parse_options_init(&o);
    o.tok = state.tok;
    o.vocab = 4096;
    o.max_len = 256;
    o.bos = o.prefix = 0;
    o.adapters = adapters;
    o.n_adapters = 2;
    if (n % 2 == 0) { /* half of the lines meet a model with a chat template */
        o.chat = render;
        o.chat_arg = state.chat;
    }
    if (mb_parse_scan(&o, data, n, 0, &scan) != MB_OK || mb_parse_line(&o, data, n, 0, &r) != MB_OK)
        abort();
    free(scan.id.data);
    mb_request_destroy(r);
}

static void run_template(const uint8_t *data, size_t n)
{
    struct mb_chat *c = NULL;
    struct mb_bytes out = {0};
    char err[200];
    if (mb_chat_create((const char *)data, n, state.tokens, "fuzz", &c) == MB_OK) {
        struct mb_chat_ask ask = {.messages = state.messages, .add_generation_prompt = true};
        (void)mb_chat_render(c, &ask, err, sizeof err, &out);
        ask = (struct mb_chat_ask){.messages = state.messages, .tools = state.tools, .continue_final_message = true};
        (void)mb_chat_render(c, &ask, err, sizeof err, &out);
    }
    mb_bytes_fini(&out);
    mb_chat_destroy(c);
}

static void make_chats(void)
{
    static const char chat[] = "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"hi\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":\"function\",\"id\":\"123456789\",\"function\":"
        "{\"name\":\"f\",\"arguments\":{\"x\":[1,2.5,null]}}}]},{\"role\":\"tool\",\"name\":\"f\",\"content\":\"4\"},"
        "{\"role\":\"assistant\",\"content\":\"<think>a</think>yes\"},{\"role\":\"user\",\"content\":\"more\"}]";
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":"
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"}},\"required\":[\"x\"]}}}]";
    static const char turns[] = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}\n{% endfor %}";
    state.messages = json_loads(chat, 0, NULL);
    state.tools = json_loads(tools, 0, NULL);
    state.tokens = json_loads("{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}", 0, NULL);
    if (state.messages == NULL || state.tools == NULL || state.tokens == NULL ||
        mb_chat_create(turns, sizeof turns - 1, NULL, "turns", &state.chat) != MB_OK)
        abort();
}

/* ---------------------------------------------------------------- journals and records */
static void run_journal(const uint8_t *data, size_t n)
{
    char path[2200];
    struct mb_journal_reader *r = NULL;
    struct mb_frame f;
    bool got = true;
    fuzz_file(in_work(path, "journal"), data, n, n);
    if (mb_journal_open(path, &r) != MB_OK)
        abort();
    for (bool first = true; mb_journal_next(r, &f, &got) == MB_OK && got; first = false) {
        struct mb_identity id = {0};
        struct mb_done d;
        struct mb_record rec;
        if (first && mb_journal_head(&f, path, &id) == MB_OK)
            mb_identity_fini(&id);
        if ((f.kind == MB_JOURNAL_DONE || f.kind == MB_JOURNAL_ERROR) && mb_done_parse(f.payload, f.len, &d) &&
            mb_record_unpack(d.record, d.n, &rec) == MB_OK)
            mb_record_fini(&rec);
    }
    mb_journal_close(r);
}

/* Frames get lengths that end inside the file, and the hashes of what they now hold. */
static void mend_journal(uint8_t *data, size_t n)
{
    for (size_t at = 0; n - at > 16;) {
        uint32_t len;
        memcpy(&len, data + at + 4, 4);
        if (len == 0 || len > n - at - 16)
            len = (uint32_t)(n - at - 16);
        uint64_t hash = mb_hash64(data + at + 16, len);
        memcpy(data + at, "MBJL", 4);
        memcpy(data + at + 4, &len, 4);
        memcpy(data + at + 8, &hash, 8);
        at += 16 + (size_t)len;
    }
}

/* A packed record as it is. */
static void run_record(const uint8_t *data, size_t n)
{
    struct mb_record rec;
    if (mb_record_unpack(data, n, &rec) == MB_OK)
        mb_record_fini(&rec);
}

/* ---------------------------------------------------------------- */
void fuzz_start(const char *top, const char *work)
{
    char buf[2200];
    snprintf(state.top, sizeof state.top, "%s", top);
    snprintf(state.work, sizeof state.work, "%s", work);
    mb_log_set_quiet(true);
    make_models();
    make_chats();
    snprintf(buf, sizeof buf, "%s/inputs/models/demo", top);
    if (mb_tokenizer_load(buf, &state.tok) != MB_OK)
        abort();
}

void fuzz_end(void)
{
    mb_tokenizer_destroy(state.tok);
    mb_chat_destroy(state.chat);
    json_decref(state.messages);
    json_decref(state.tools);
    json_decref(state.tokens);
    fuzz_files_end();
}

/* ---------------------------------------------------------------- grammars */
/* Every byte is a token. */
static enum mb_status byte_tokens(void *arg, int32_t n, struct mb_bytes *text, int64_t *at)
{
    (void)arg;
    for (int32_t i = 0; i < n; i++) {
        at[i] = i;
        MB_TRY(mb_bytes_put(text, &(uint8_t){(uint8_t)i}, 1));
    }
    at[n] = n;
    return MB_OK;
}

/* Goes where masks lead, the way chosen by the bytes of the grammar: what a mask allows must be taken. */
static void follow(struct mb_guide *u, const uint8_t *data, size_t n)
{
    struct mb_config at = {0};
    struct mb_guide_mask m;
    bool ok = mb_guide_begin(u, &at) == MB_OK;

    for (size_t i = 0; i < 40 && ok; i++) {
        if (mb_guide_next(u, &at, &m) != MB_OK)
            abort();
        if (m.tokens == 0)
            break;
        int32_t k = data[i % n] % m.tokens, id = 0;
        for (;; id++)
            if ((m.bits[id / 32] >> id % 32 & 1) && k-- == 0)
                break;
        if (mb_guide_take(u, &at, id, &ok) != MB_OK || !ok)
            abort();
    }
    mb_config_fini(&at);
}

static void run_guide(enum mb_guide_kind kind, const uint8_t *data, size_t n)
{
    const struct mb_guides_options o = {.vocab = 256, .tokens = byte_tokens};
    struct mb_guides *g;
    struct mb_guide *u;
    char err[400];

    if (n == 0 || mb_guides_create(&o, &g) != MB_OK)
        return;
    if (mb_guide_open(g, kind, (const char *)data, n, &u, err, sizeof err) == MB_OK) {
        follow(u, data, n);
        mb_guide_close(u);
    }
    mb_guides_destroy(g);
}

static void run_regex(const uint8_t *data, size_t n)
{
    run_guide(MB_GUIDE_REGEX, data, n);
}

static void run_schema(const uint8_t *data, size_t n)
{
    run_guide(MB_GUIDE_JSON, data, n);
}

const struct fuzz_target fuzz_targets[] = {
    {"weights", run_weights, mend_weights}, {"config", run_config, NULL},   {"tokenizer", run_tokenizer, NULL},
    {"spm", run_spm, NULL},                 {"request", run_request, NULL}, {"template", run_template, NULL},
    {"journal", run_journal, mend_journal}, {"record", run_record, NULL},
    {"regex", run_regex, NULL},             {"schema", run_schema, NULL},
};
const int fuzz_n_targets = sizeof fuzz_targets / sizeof fuzz_targets[0];
