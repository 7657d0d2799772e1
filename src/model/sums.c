#include "model/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"

struct mb_sums {
    const struct mb_model *m;
    int64_t *first;  /* [files + 1]: number of a file's first block */
    int64_t *blocks; /* hashes; MB_SUM_UNKNOWN: not known */
    uint8_t *buf;    /* of mb_sums_read; MB_SUM_BLOCK bytes */
};

static int64_t blocks_of(uint64_t bytes)
{
    return (int64_t)(bytes / MB_SUM_BLOCK + (bytes % MB_SUM_BLOCK != 0));
}

enum mb_status mb_sums_create(const struct mb_model *m, struct mb_sums **out)
{
    struct mb_sums *s = calloc(1, sizeof *s);

    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the hashes of the weights");
    s->m = m;
    s->first = calloc((size_t)m->n_files + 1, sizeof *s->first);
    for (int32_t f = 0; f < m->n_files && s->first != NULL; f++)
        s->first[f + 1] = s->first[f] + blocks_of(m->file_bytes[f]);
    if (s->first != NULL)
        s->blocks = malloc(((size_t)s->first[m->n_files] + 1) * sizeof *s->blocks);
    if (s->blocks == NULL) {
        mb_sums_destroy(s);
        return mb_error(MB_NO_MEMORY, "no memory for the hashes of the weights");
    }
    for (int64_t i = 0; i < s->first[m->n_files]; i++)
        s->blocks[i] = MB_SUM_UNKNOWN;
    *out = s;
    return MB_OK;
}

void mb_sums_destroy(struct mb_sums *s)
{
    if (s == NULL)
        return;
    free(s->first);
    free(s->blocks);
    free(s->buf);
    free(s);
}

enum mb_status mb_sums_note(struct mb_sums *s, int32_t file, uint64_t off, uint64_t n, const void *data)
{
    uint64_t size = s->m->file_bytes[file];

    for (uint64_t at = 0; at < n; at += MB_SUM_BLOCK) {
        uint64_t left = size - off - at, len = left < MB_SUM_BLOCK ? left : MB_SUM_BLOCK;
        int64_t *block = &s->blocks[s->first[file] + (int64_t)((off + at) / MB_SUM_BLOCK)];
        if (len > n - at)
            break;
        int64_t hash = (int64_t)mb_hash64((const uint8_t *)data + at, len);
        if (*block != MB_SUM_UNKNOWN && *block != hash)
            return mb_error(
                MB_MODEL,
                "%s/%s: bytes %llu to %llu are not what they were when they were read before; weights must "
                "not change while a job runs, and all nodes must see the same",
                s->m->dir, s->m->files[file], (unsigned long long)(off + at),
                (unsigned long long)(off + at + len));
        *block = hash;
    }
    return MB_OK;
}

int64_t *mb_sums_blocks(struct mb_sums *s, int64_t *n)
{
    *n = s->first[s->m->n_files];
    return s->blocks;
}

int32_t mb_sums_file_of(const struct mb_sums *s, int64_t block)
{
    int32_t lo = 0, hi = s->m->n_files;

    while (hi - lo > 1) {
        int32_t mid = lo + (hi - lo) / 2;
        if (s->first[mid] <= block)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

enum mb_status mb_sums_read(struct mb_sums *s, int64_t block)
{
    int32_t file = mb_sums_file_of(s, block);
    uint64_t off = (uint64_t)(block - s->first[file]) * MB_SUM_BLOCK, left = s->m->file_bytes[file] - off;
    uint64_t n = left < MB_SUM_BLOCK ? left : MB_SUM_BLOCK;
    char *path = mb_path_join(s->m->dir, s->m->files[file]);

    if (s->buf == NULL)
        s->buf = malloc(MB_SUM_BLOCK);
    if (s->buf == NULL || path == NULL) {
        free(path);
        return mb_error(MB_NO_MEMORY, "no memory to read weights");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum mb_status st = fd < 0 ? mb_error(MB_IO, "%s: %s", path, strerror(errno)) : MB_OK;
    if (st == MB_OK)
        st = mb_pread_all(fd, s->buf, (size_t)n, off, path, MB_MODEL);
    if (st == MB_OK)
        st = mb_sums_note(s, file, off, n, s->buf);
    if (fd >= 0)
        close(fd);
    free(path);
    return st;
}

static struct mb_hash128 over(const int64_t *blocks, int64_t n)
{
    return mb_hash128_of(blocks, (size_t)n * sizeof *blocks); /* x86-64 only: little-endian as it is */
}

struct mb_hash128 mb_sums_file(const struct mb_sums *s, int32_t file)
{
    return over(s->blocks + s->first[file], s->first[file + 1] - s->first[file]);
}

static enum mb_status hash_blocks(int fd, const char *path, uint64_t bytes, int64_t *blocks, uint8_t *buf)
{
    for (uint64_t at = 0; at < bytes; at += MB_SUM_BLOCK) {
        uint64_t n = bytes - at < MB_SUM_BLOCK ? bytes - at : MB_SUM_BLOCK;
        MB_TRY(mb_pread_all(fd, buf, (size_t)n, at, path, MB_MODEL));
        blocks[at / MB_SUM_BLOCK] = (int64_t)mb_hash64(buf, n);
    }
    return MB_OK;
}

enum mb_status mb_sums_path(const char *path, uint64_t *bytes, struct mb_hash128 *out)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &sb) != 0) {
        enum mb_status st = mb_error(MB_IO, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return st;
    }
    int64_t n = blocks_of((uint64_t)sb.st_size), *blocks = malloc(((size_t)n + 1) * sizeof *blocks);
    uint8_t *buf = malloc(MB_SUM_BLOCK);
    enum mb_status st = blocks == NULL || buf == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to hash %s", path)
                            : hash_blocks(fd, path, (uint64_t)sb.st_size, blocks, buf);
    if (st == MB_OK) {
        *bytes = (uint64_t)sb.st_size;
        *out = over(blocks, n);
    }
    close(fd);
    free(blocks);
    free(buf);
    return st;
}
