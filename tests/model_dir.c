#include "tests/model_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"

static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

void dir_make(char *path)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, 256, "%s/mb-model-XXXXXX", tmp != NULL ? tmp : "/tmp");
    need(mkdtemp(path) != NULL, path);
}

void dir_remove(const char *path)
{
    need(mb_remove_tree(path) == MB_OK, path);
}

void dir_write(const char *dir, const char *name, const void *data, size_t n)
{
    char *path = mb_path_join(dir, name);
    unlink(path); /* truncating an old file makes some file systems write it out first */
    FILE *f = fopen(path, "wb");
    need(f != NULL && fwrite(data, 1, n, f) == n && fclose(f) == 0, path);
    free(path);
}

void dir_text(const char *dir, const char *name, const char *text)
{
    dir_write(dir, name, text, strlen(text));
}

void dir_json(const char *dir, const char *name, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT);
    dir_text(dir, name, text);
    free(text);
}

void dir_link_all(const char *dir, const char *src, const char *except)
{
    char *real = realpath(src, NULL);
    DIR *d = opendir(real);
    need(d != NULL, src);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, except) == 0)
            continue;
        char *from = mb_path_join(real, e->d_name), *to = mb_path_join(dir, e->d_name);
        need(symlink(from, to) == 0, to);
        free(from);
        free(to);
    }
    closedir(d);
    free(real);
}

void json_edit(json_t *v, const char *key, const char *text)
{
    char part[64];
    size_t n = strcspn(key, ".");

    snprintf(part, sizeof part, "%.*s", (int)n, key);
    if (key[n] == '.') {
        json_edit(json_object_get(v, part), key + n + 1, text);
    } else if (text == NULL) {
        json_object_del(v, part);
    } else {
        json_t *x = json_loads(text, JSON_DECODE_ANY, NULL);
        need(x != NULL, text);
        json_object_set_new(v, part, x);
    }
}

json_t *json_read(const char *dir, const char *name)
{
    char *path = mb_path_join(dir, name);
    json_t *v = json_load_file(path, 0, NULL);
    need(v != NULL, path);
    free(path);
    return v;
}

/* ---------------------------------------------------------------- the tiny model */
json_t *tiny_config(void)
{
    return json_loads("{\"model_type\": \"mixtral\", \"num_hidden_layers\": 1, \"hidden_size\": 4, \"vocab_size\": 5,"
                      " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 64,"
                      " \"rms_norm_eps\": 1e-5, \"num_local_experts\": 2, \"num_experts_per_tok\": 1, \"intermediate_size\": 3,"
                      " \"eos_token_id\": 2, \"torch_dtype\": \"float32\"}", 0, NULL);
}

#define L0 "model.layers.0."
static const struct {
    const char *name;
    int n, k; /* n 0: a vector */
} tiny[] = {{"model.embed_tokens.weight", 5, 4},
            {"model.norm.weight", 0, 4},
            {"lm_head.weight", 5, 4},
            {L0 "input_layernorm.weight", 0, 4},
            {L0 "post_attention_layernorm.weight", 0, 4},
            {L0 "self_attn.q_proj.weight", 4, 4},
            {L0 "self_attn.k_proj.weight", 2, 4},
            {L0 "self_attn.v_proj.weight", 2, 4},
            {L0 "self_attn.o_proj.weight", 4, 4},
            {L0 "block_sparse_moe.gate.weight", 2, 4},
            {L0 "block_sparse_moe.experts.0.w1.weight", 3, 4},
            {L0 "block_sparse_moe.experts.0.w2.weight", 4, 3},
            {L0 "block_sparse_moe.experts.0.w3.weight", 3, 4},
            {L0 "block_sparse_moe.experts.1.w1.weight", 3, 4},
            {L0 "block_sparse_moe.experts.1.w2.weight", 4, 3},
            {L0 "block_sparse_moe.experts.1.w3.weight", 3, 4}};

size_t tiny_tensors(void)
{
    return sizeof tiny / sizeof tiny[0];
}

const char *tiny_name(size_t i)
{
    return tiny[i].name;
}

json_t *tiny_header(size_t first, size_t n, uint64_t *bytes)
{
    json_t *h = json_object();
    uint64_t at = 0;

    for (size_t i = first; i < tiny_tensors() && (n == 0 || i < first + n); i++) {
        uint64_t size = 4 * (uint64_t)(tiny[i].n > 0 ? tiny[i].n * tiny[i].k : tiny[i].k);
        json_t *shape = tiny[i].n > 0 ? json_pack("[ii]", tiny[i].n, tiny[i].k) : json_pack("[i]", tiny[i].k);
        json_object_set_new(h, tiny[i].name, json_pack("{s:s,s:o,s:[II]}", "dtype", "F32", "shape", shape, "data_offsets",
                                                       (json_int_t)at, (json_int_t)(at + size)));
        at += size;
    }
    *bytes = at;
    return h;
}

void dir_safetensors(const char *dir, const char *name, const char *header, int64_t length, uint64_t bytes)
{
    size_t n = strlen(header);
    uint64_t word = length < 0 ? n : (uint64_t)length;
    char *all = malloc(8 + n + bytes + 4);
    const float one = 1;

    for (int i = 0; i < 8; i++)
        all[i] = (char)(word >> 8 * i & 255);
    memcpy(all + 8, header, n);
    for (uint64_t i = 0; i < bytes; i += 4)
        memcpy(all + 8 + n + i, &one, 4); /* room for a whole last one */
    dir_write(dir, name, all, 8 + n + bytes);
    free(all);
}

void dir_safetensors_json(const char *dir, const char *name, json_t *header, uint64_t bytes)
{
    char *text = json_dumps(header, JSON_COMPACT);
    dir_safetensors(dir, name, text, -1, bytes);
    free(text);
    json_decref(header);
}

/* ---------------------------------------------------------------- stderr */
static int saved = -1;
static char caught[256];

void catch_begin(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(caught, sizeof caught, "%s/mb-stderr-XXXXXX", tmp != NULL ? tmp : "/tmp");
    int fd = mkstemp(caught);
    need(fd >= 0, caught);
    fflush(stderr);
    saved = dup(2);
    dup2(fd, 2);
    close(fd);
}

char *catch_end(void)
{
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    FILE *f = fopen(caught, "rb");
    char *text = calloc(1, 65536);
    need(f != NULL && text != NULL, caught);
    size_t n = fread(text, 1, 65535, f);
    text[n] = 0;
    fclose(f);
    unlink(caught);
    return text;
}
