/* tie_word_embeddings beside a stored LM head. Libraries differ: the models' own one uses the stored head if
 * it is another matrix, servers tie. The head is used as it is stored; who would get other numbers elsewhere
 * is told. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/load.h"

#define PIECE 65536u
#define PIECES 64u /* spread over the matrix, first and last bytes included */

static enum mb_status open_entry(const struct mb_shards *s, const struct mb_st_entry *e, char **path, int *fd)
{
    *fd = -1;
    *path = mb_path_join(s->dir, s->files[e->file]);
    if (*path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    *fd = open(*path, O_RDONLY | O_CLOEXEC);
    return *fd >= 0 ? MB_OK : mb_error(MB_IO, "%s: %s", *path, strerror(errno));
}

/* Whether pieces of the two entries, which have the same size, differ. */
static enum mb_status differ(const int fd[2], char *const path[2], const struct mb_st_entry *const e[2],
                             bool *out)
{
    uint64_t n = e[0]->bytes, step = n / PIECES > PIECE ? n / PIECES : PIECE;
    uint8_t *a = malloc(2 * (size_t)PIECE), *b = a != NULL ? a + PIECE : NULL;
    enum mb_status st = a == NULL ? mb_error(MB_NO_MEMORY, "no memory for comparing two tensors") : MB_OK;

    *out = false;
    for (uint64_t at = 0; st == MB_OK && !*out && at < n; at += step) {
        uint64_t from = n - at < step && n > PIECE ? n - PIECE : at,
                 size = n - from < PIECE ? n - from : PIECE;
        st = mb_pread_all(fd[0], a, size, e[0]->offset + from, path[0], MB_MODEL);
        if (st == MB_OK)
            st = mb_pread_all(fd[1], b, size, e[1]->offset + from, path[1], MB_MODEL);
        *out = st == MB_OK && memcmp(a, b, size) != 0;
    }
    free(a);
    return st;
}

enum mb_status mb_compare_head(const struct mb_shards *s, const struct mb_st_entry *embed,
                               const struct mb_st_entry *head, bool *own)
{
    const struct mb_st_entry *e[2] = {embed, head};
    char *path[2] = {NULL, NULL};
    int fd[2] = {-1, -1};
    bool other = embed->dtype != head->dtype || embed->bytes != head->bytes;
    enum mb_status st = MB_OK;

    for (int i = 0; st == MB_OK && !other && i < 2; i++)
        st = open_entry(s, e[i], &path[i], &fd[i]);
    if (st == MB_OK && !other)
        st = differ(fd, path, e, &other);
    for (int i = 0; i < 2; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
        free(path[i]);
    }
    if (st == MB_OK)
        *own = other || embed->bytes > (uint64_t)PIECE * PIECES;
    if (st == MB_OK && other)
        mb_warn("%s: tie_word_embeddings is true, but %s is stored and differs from %s: the stored one is "
                "used (other programs may tie "
                "them)",
                s->dir, mb_st_name(s, head), mb_st_name(s, embed));
    return st;
}
