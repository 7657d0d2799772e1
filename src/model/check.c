/* `check -m`: everything mb_model_open checks, then the contents: each file's hash and each weight's finiteness. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/reader.h"

#define PIECE (16u << 20)
#define ROWS_BYTES (16u << 20) /* f32 copy of some rows */

static enum mb_status hash_pieces(int fd, const char *path, uint64_t size, struct mb_mem *mem, struct mb_hash128 *out)
{
    struct mb_hasher *h = mb_hasher_create();
    uint8_t *buf = mb_alloc(mem, MB_MEM_STAGING, PIECE, 1);
    enum mb_status st = h == NULL || buf == NULL ? mb_error(MB_NO_MEMORY, "no memory for hashing %s", path) : MB_OK;

    for (uint64_t at = 0; st == MB_OK && at < size; at += PIECE) {
        uint64_t n = size - at < PIECE ? size - at : PIECE;
        st = mb_pread_all(fd, buf, n, at, path, MB_MODEL);
        if (st == MB_OK)
            mb_hasher_put(h, buf, n);
    }
    if (st == MB_OK)
        *out = mb_hasher_128(h);
    mb_free(buf);
    mb_hasher_destroy(h);
    return st;
}

static enum mb_status check_file(FILE *f, const struct mb_model *m, int32_t file, struct mb_mem *mem)
{
    struct mb_hash128 hash;
    char hex[33], *path = mb_path_join(m->dir, m->files[file]);

    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum mb_status st = fd < 0 ? mb_error(MB_IO, "%s: %s", path, strerror(errno))
                               : hash_pieces(fd, path, m->file_bytes[file], mem, &hash);
    if (st == MB_OK) {
        mb_hash128_hex(hash, hex);
        fprintf(f, "XXH3-128  : %s  %s\n", hex, m->files[file]);
    }
    if (fd >= 0)
        close(fd);
    free(path);
    return st;
}

/* Counts elements that are NaN or infinite. */
static enum mb_status count_bad(struct mb_reader *r, const struct mb_tensor *t, struct mb_mem *mem, int64_t *bad)
{
    int64_t rows = ROWS_BYTES / 4 / t->k;
    struct mb_host_matrix h;
    enum mb_status st = MB_OK;

    rows = rows < 1 ? 1 : rows > t->n ? t->n : rows;
    float *x = mb_alloc(mem, MB_MEM_STAGING, (size_t)(rows * t->k), sizeof *x);
    if (x == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %lld rows of a tensor", (long long)rows);
    *bad = 0;
    for (int64_t n0 = 0; st == MB_OK && n0 < t->n; n0 += rows) {
        int64_t n = t->n - n0 < rows ? t->n - n0 : rows;
        st = mb_reader_rows(r, t, n0, n, &h);
        if (st == MB_OK)
            mb_host_to_f32(&h, x);
        for (int64_t i = 0; st == MB_OK && i < n * t->k; i++)
            *bad += !isfinite(x[i]);
    }
    mb_free(x);
    return st;
}

static enum mb_status check_weights(FILE *f, const struct mb_model *m, struct mb_mem *mem)
{
    struct mb_reader *r = NULL;
    int64_t wrong = 0, bad = 0;
    enum mb_status st = mb_reader_create(m, mem, &r);

    for (int64_t i = 0; st == MB_OK && i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        st = count_bad(r, t, mem, &bad);
        if (st != MB_OK || bad == 0)
            continue;
        wrong++;
        fprintf(f, "not finite: %s of layer %d, expert %d (%s): expected finite weights, found %" PRId64 " of %" PRId64
                   " NaN or infinite\n", mb_role_name((enum mb_role)t->role), t->layer, t->expert, m->files[t->file], bad, t->n * t->k);
    }
    mb_reader_destroy(r);
    if (st == MB_OK && wrong > 0)
        return mb_error(MB_MODEL, "%s: weights: expected finite numbers, found %lld tensors with others", m->dir, (long long)wrong);
    return st;
}

enum mb_status mb_model_check(FILE *f, const char *dir, struct mb_mem *mem)
{
    struct mb_model *m = NULL;

    MB_TRY(mb_model_open(dir, 0, &m));
    mb_model_print(f, m);
    enum mb_status st = MB_OK;
    for (int32_t i = 0; st == MB_OK && i < m->n_files; i++)
        st = check_file(f, m, i, mem);
    if (st == MB_OK && m->n_files > 0)
        st = check_weights(f, m, mem);
    if (st == MB_OK)
        fprintf(f, "model     : no error found\n");
    mb_model_destroy(m);
    return st;
}
