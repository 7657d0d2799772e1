#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/journal.h"
#include "io/parse.h"
#include "job/record.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static struct {
    char top[1024], work[1024];
    struct mb_tokenizer *tok;
} state;

static void put_file(const char *dir, const char *name, const void *data, size_t n)
{
    char path[2200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        abort();
    close(fd);
}

static void copy_into(const char *dir, const char *name, const char *from)
{
    char path[2200];
    struct mb_bytes b = {0};
    snprintf(path, sizeof path, "%s/%s", state.top, from);
    if (mb_file_read(path, 1 << 28, MB_IO, &b) != MB_OK)
        abort();
    put_file(dir, name, b.data, b.len);
    mb_bytes_fini(&b);
}

static const char *dir_of(const char *name, char buf[2200])
{
    snprintf(buf, 2200, "%s/%s", state.work, name);
    if (mb_mkdirs(buf) != MB_OK)
        abort();
    return buf;
}

void fuzz_start(const char *top, const char *work)
{
    char buf[2200];
    snprintf(state.top, sizeof state.top, "%s", top);
    snprintf(state.work, sizeof state.work, "%s", work);
    mb_log_set_quiet(true);
    copy_into(dir_of("weights", buf), "config.json", "tests/data/models/mixtral_dense/config.json");
    copy_into(dir_of("config", buf), "model.safetensors", "tests/data/models/mixtral_dense/model.safetensors");
    dir_of("tokenizer", buf);
    snprintf(buf, sizeof buf, "%s/inputs/models/demo", top);
    if (mb_tokenizer_load(buf, &state.tok) != MB_OK)
        abort();
}

void fuzz_end(void)
{
    mb_tokenizer_destroy(state.tok);
    state.tok = NULL;
}

static void open_model(const char *dir)
{
    struct mb_model *m = NULL;
    struct mb_bytes flat = {0};
    if (mb_model_open(dir, 0, &m) == MB_OK)
        (void)mb_model_pack(m, &flat);
    mb_bytes_fini(&flat);
    mb_model_destroy(m);
}

static void run_weights(const uint8_t *data, size_t n)
{
    char buf[2200];
    put_file(dir_of("weights", buf), "model.safetensors", data, n);
    open_model(buf);
}

static void run_config(const uint8_t *data, size_t n)
{
    char buf[2200];
    put_file(dir_of("config", buf), "config.json", data, n);
    open_model(buf);
}

static void run_tokenizer(const uint8_t *data, size_t n)
{
    static const char text[] = "In the beginning \xc3\xa9 \xe4\xb8\xad 123 <s>";
    char buf[2200];
    struct mb_tokenizer *t = NULL;
    struct mb_ids ids = {0};
    struct mb_bytes out = {0};
    put_file(dir_of("tokenizer", buf), "tokenizer.json", data, n);
    if (mb_tokenizer_load(buf, &t) == MB_OK && mb_tokenizer_encode(t, text, sizeof text - 1, true, &ids) == MB_OK)
        (void)mb_tokenizer_decode(t, ids.v, ids.n, false, &out);
    free(ids.v);
    mb_bytes_fini(&out);
    mb_tokenizer_destroy(t);
}

static void run_request(const uint8_t *data, size_t n)
{
    struct mb_parse_options o;
    struct mb_request *r = NULL;
    struct mb_line_scan scan;
    mb_parse_options_init(&o);
    o.tok = state.tok;
    o.vocab = 4096;
    o.max_len = 256;
    o.bos = 0;
    if (mb_parse_scan(&o, data, n, 0, &scan) == MB_OK)
        free(scan.id.data);
    if (mb_parse_line(&o, data, n, 0, &r) == MB_OK)
        mb_request_destroy(r);
}

static void run_template(const uint8_t *data, size_t n)
{
    static const char chat[] = "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"hi\"},"
                               "{\"role\":\"assistant\",\"content\":\"yes\"},{\"role\":\"user\",\"content\":\"more\"}]";
    struct mb_chat *c = NULL;
    struct mb_bytes out = {0};
    json_t *messages = json_loads(chat, 0, NULL);
    char err[200];
    if (mb_chat_create((const char *)data, n, NULL, "fuzz", &c) == MB_OK && c != NULL)
        (void)mb_chat_render(c, messages, NULL, true, NULL, 0, err, sizeof err, &out);
    mb_bytes_fini(&out);
    mb_chat_destroy(c);
    json_decref(messages);
}

static void run_journal(const uint8_t *data, size_t n)
{
    char path[2300];
    struct mb_journal_reader *r = NULL;
    struct mb_frame f;
    bool got = true;
    put_file(state.work, "journal", data, n);
    snprintf(path, sizeof path, "%s/journal", state.work);
    if (mb_journal_open(path, &r) != MB_OK)
        return;
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

/* A packed record as it is: the checksums of a journal would keep nearly all damage from it. */
static void run_record(const uint8_t *data, size_t n)
{
    struct mb_record rec;
    if (mb_record_unpack(data, n, &rec) == MB_OK)
        mb_record_fini(&rec);
}

const struct fuzz_target fuzz_targets[] = {
    {"weights", "tests/data/models/mixtral_dense/model.safetensors", run_weights},
    {"config", "tests/data/models/mixtral_dense/config.json", run_config},
    {"tokenizer", "tests/data/models/mixtral_a/tokenizer.json", run_tokenizer},
    {"request", "tests/fuzz/request.json", run_request},
    {"template", "tests/fuzz/template.jinja", run_template},
    {"journal", "tests/fuzz/journal", run_journal},
    {"record", "tests/fuzz/journal", run_record},
};
const int fuzz_n_targets = sizeof fuzz_targets / sizeof fuzz_targets[0];
