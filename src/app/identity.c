/* Which files a job is made of: text files hashed whole by rank 0 before anything else; weights from what the
 * ranks read of them anyway, and what nobody read is read for it. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/setup.h"
#include "app/signals.h"
#include "base/fs.h"
#include "base/log.h"

#define TEXT_MAX ((uint64_t)1 << 30)
#define ROUND 64        /* blocks that a rank reads before all meet */
#define PIECE (1 << 16) /* hashes in one message */

/* ---------------------------------------------------------------- the list */
/* Files of a model directory that decide what a job computes, beside weights. */
static int is_text(const struct dirent *e)
{
    static const char *const names[] = {
        "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt"};
    const char *s = e->d_name, *dot = strrchr(s, '.');

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(s, names[i]) == 0)
            return 1;
    }
    return strncmp(s, "tokenizer", 9) == 0 || strncmp(s, "chat_template", 13) == 0 ||
           (dot != NULL && strcmp(dot, ".model") == 0);
}

static enum mb_status put_text(struct mb_files *out, const char *path, const char *name)
{
    struct mb_bytes text = {0};
    enum mb_status st = mb_file_read(path, TEXT_MAX, MB_MODEL, &text);

    if (st == MB_OK) {
        struct mb_hash128 h = mb_hash128_of(text.data, text.len);
        st = mb_files_put(out, name, text.len, &h);
    }
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status put_texts(struct mb_files *out, const char *dir)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, is_text, alphasort);
    enum mb_status st = n < 0 ? mb_error(MB_MODEL, "%s: %s", dir, strerror(errno)) : MB_OK;

    for (int i = 0; i < n; i++) {
        char *path = mb_path_join(dir, list[i]->d_name);
        if (st == MB_OK)
            st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                              : put_text(out, path, list[i]->d_name);
        free(path);
        free(list[i]);
    }
    free(list);
    return st;
}

/* Name of a file in the list: adapters' begin with the adapter's. */
static const char *name_of(const struct mb_app *a, int32_t adapter, const char *file, char buf[PATH_MAX])
{
    if (adapter < 0)
        return file;
    snprintf(buf, PATH_MAX, "adapter %.1000s/%.1000s", a->adapter_name[adapter], file);
    return buf;
}

static enum mb_status put_weights(const struct mb_app *a, int32_t adapter, const struct mb_model *m,
                                  struct mb_files *out)
{
    char buf[PATH_MAX];

    for (int32_t f = 0; f < m->n_files; f++)
        MB_TRY(mb_files_put(out, name_of(a, adapter, m->files[f], buf), m->file_bytes[f], NULL));
    return MB_OK;
}

static enum mb_status put_adapter(const struct mb_app *a, int32_t i, struct mb_files *out)
{
    const struct mb_model *files = &a->adapter[i]->files;
    char buf[PATH_MAX], *path = mb_path_join(files->dir, "adapter_config.json");
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                                     : put_text(out, path, name_of(a, i, "adapter_config.json", buf));

    free(path);
    return st == MB_OK ? put_weights(a, i, files, out) : st;
}

enum mb_status mb_app_files(const struct mb_app *a, struct mb_files *out)
{
    enum mb_status st = put_texts(out, a->conf->model);

    if (st == MB_OK)
        st = put_weights(a, -1, a->model, out);
    for (int32_t i = 0; i < a->n_adapters && st == MB_OK; i++)
        st = put_adapter(a, i, out);
    if (st != MB_OK)
        mb_files_fini(out);
    return st;
}

/* ---------------------------------------------------------------- hashes of weights */
/* The largest and the smallest hash that any rank has of each block; two that differ are two files of one
 * name. */
static enum mb_status merge_piece(struct mb_app *a, const struct mb_model *m, const struct mb_sums *s,
                                  int64_t first, int64_t *blocks, int32_t n, int64_t *least)
{
    for (int32_t i = 0; i < n; i++)
        least[i] = blocks[i] == MB_SUM_UNKNOWN ? MB_SUM_UNKNOWN : ~blocks[i];
    MB_TRY(mb_comm_max_i64(a->comm, blocks, n, "hashes of weights"));
    MB_TRY(mb_comm_max_i64(a->comm, least, n, "hashes of weights"));
    for (int32_t i = 0; i < n; i++) {
        if (blocks[i] == MB_SUM_UNKNOWN || ~least[i] == blocks[i])
            continue;
        return a->rank != 0
                   ? MB_MODEL
                   : mb_error(MB_MODEL,
                              "%s: two ranks read different contents; all nodes must see the same files",
                              m->files[mb_sums_file_of(s, first + i)]);
    }
    return MB_OK;
}

static enum mb_status merge(struct mb_app *a, const struct mb_model *m, struct mb_sums *s)
{
    int64_t n, *blocks = mb_sums_blocks(s, &n), *least = malloc(PIECE * sizeof *least);
    enum mb_status st = least == NULL ? mb_error(MB_NO_MEMORY, "no memory for hashes of weights") : MB_OK;

    st = mb_comm_agree(a->comm, st, "hashes of weights");
    for (int64_t i = 0; i < n && st == MB_OK; i += PIECE)
        st = merge_piece(a, m, s, i, blocks + i, (int32_t)(n - i < PIECE ? n - i : PIECE), least);
    free(least);
    return st;
}

/* This rank's next blocks among those that nobody knows: every size-th. */
static enum mb_status read_round(struct mb_app *a, struct mb_sums *s, int64_t *at, int64_t *seen)
{
    int64_t n, *blocks = mb_sums_blocks(s, &n);

    for (int32_t got = 0; *at < n && got < ROUND; ++*at) {
        if (blocks[*at] != MB_SUM_UNKNOWN || (*seen)++ % a->size != a->rank)
            continue;
        MB_TRY(mb_sums_read(s, *at));
        got++;
    }
    return *mb_signals_stop() ? mb_error(MB_STOP, "stopped while the weights were being hashed") : MB_OK;
}

static enum mb_status read_rest(struct mb_app *a, struct mb_sums *s)
{
    int64_t n, at = 0, seen = 0, left = 1;

    (void)mb_sums_blocks(s, &n);
    while (left != 0) {
        MB_TRY(mb_comm_agree(a->comm, read_round(a, s, &at, &seen), "hashing weights"));
        left = at < n;
        MB_TRY(mb_comm_max_i64(a->comm, &left, 1, "hashing weights"));
    }
    return MB_OK;
}

static enum mb_status complete(struct mb_app *a, int32_t adapter, const struct mb_model *m, struct mb_sums *s,
                               struct mb_files *out)
{
    char buf[PATH_MAX];

    MB_TRY(merge(a, m, s));
    MB_TRY(read_rest(a, s));
    MB_TRY(merge(a, m, s));
    for (int32_t f = 0; f < m->n_files; f++) {
        struct mb_file_sum *item = mb_files_find(out, name_of(a, adapter, m->files[f], buf));
        if (item == NULL)
            continue;
        item->hash = mb_sums_file(s, f);
        item->known = true;
    }
    return MB_OK;
}

enum mb_status mb_app_sums(struct mb_app *a)
{
    return mb_comm_agree(a->comm, mb_sums_create(a->model, &a->sums), "hashes of weights");
}

enum mb_status mb_app_hash(struct mb_app *a, struct mb_files *out)
{
    MB_TRY(complete(a, -1, a->model, a->sums, out));
    for (int32_t i = 0; i < a->n_adapters; i++) {
        struct mb_sums *s = NULL;
        enum mb_status st =
            mb_comm_agree(a->comm, mb_sums_create(&a->adapter[i]->files, &s), "hashes of adapters");
        if (st == MB_OK)
            st = complete(a, i, &a->adapter[i]->files, s, out);
        mb_sums_destroy(s);
        MB_TRY(st);
    }
    return MB_OK;
}
