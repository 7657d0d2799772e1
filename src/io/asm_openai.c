#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/asm_batch.h"

/* The lines of the next rows; a batch holds whole lines of the input. */
static enum mb_status make_lines(struct mb_asm *a, struct mb_batch *b, struct mb_bytes *out)
{
    out->len = 0;
    MB_TRY(mb_batch_next(a, b));
    for (int64_t i = 0, j; i < b->n; i = j) {
        for (j = i + 1; j < b->n && b->r[j].line == b->r[i].line; j++)
            ;
        MB_TRY(mb_openai_line(a->openai, &b->r[i], (int32_t)(j - i), out));
    }
    return MB_OK;
}

/* One round of owner r's lines to rank 0, which appends them. */
static enum mb_status one_round(struct mb_asm *a, int r, struct mb_batch *b, struct mb_bytes *mine, uint64_t *off,
                                uint64_t *recv_off, int fd, const char *tmp, bool *more)
{
    uint8_t *recv = NULL;
    enum mb_status st = MB_OK;
    int64_t left = 0;
    mine->len = 0;
    if (a->g.rank == r) {
        st = make_lines(a, b, mine);
        left = b->n;
    }
    MB_TRY(mb_group_agree(&a->g, st, "OpenAI lines"));
    MB_TRY(mb_group_max(&a->g, &left, 1, "OpenAI lines"));
    *more = left > 0;
    if (!*more)
        return MB_OK;
    for (int i = 0; i <= a->g.size; i++)
        off[i] = i == 0 ? 0 : mine->len;
    MB_TRY(mb_group_alltoallv(&a->g, mine->data, off, &recv, recv_off, "OpenAI lines"));
    if (a->g.rank == 0)
        st = mb_write_all(fd, recv, (size_t)recv_off[a->g.size], tmp);
    mb_free(recv);
    return mb_group_agree(&a->g, st, "OpenAI lines");
}

static enum mb_status publish(int fd, const char *tmp, const char *path)
{
    if (fsync(fd) != 0)
        return mb_error(errno == ENOSPC || errno == EDQUOT ? MB_NO_SPACE : MB_IO, "%s: fsync: %s", tmp, strerror(errno));
    if (rename(tmp, path) != 0)
        return mb_error(MB_IO, "%s: rename from %s: %s", path, tmp, strerror(errno));
    return MB_OK;
}

enum mb_status mb_asm_openai(struct mb_asm *a)
{
    struct mb_bytes mine = {0};
    struct mb_batch b = {0};
    size_t ranks = (size_t)a->g.size + 1;
    uint64_t *off = mb_alloc(a->mem, MB_MEM_EXCHANGE, 2 * ranks, sizeof *off);
    char *tmp = NULL;
    int fd = -1;
    enum mb_status st = off == NULL ? mb_error(MB_NO_MEMORY, "no memory to exchange lines") : MB_OK;
    if (st == MB_OK && a->g.rank == 0) {
        if (asprintf(&tmp, "%s.tmp.%ld", a->openai_path, (long)getpid()) < 0)
            tmp = NULL;
        fd = tmp == NULL ? -1 : open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0)
            st = mb_error(MB_IO, "%s: %s", a->openai_path, tmp == NULL ? "no memory" : strerror(errno));
    }
    st = mb_group_agree(&a->g, st, "OpenAI lines");
    for (int r = 0; r < a->owners && st == MB_OK; r++) {
        for (bool more = true; st == MB_OK && more;)
            st = one_round(a, r, &b, &mine, off, off + ranks, fd, tmp, &more);
    }
    if (st == MB_OK && a->g.rank == 0)
        st = publish(fd, tmp, a->openai_path);
    if (fd >= 0)
        close(fd);
    if (st != MB_OK && fd >= 0)
        unlink(tmp);
    free(tmp);
    mb_batch_fini(&b);
    mb_bytes_fini(&mine);
    mb_free(off);
    return mb_group_agree(&a->g, st, "OpenAI lines");
}
