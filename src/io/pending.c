#include "io/pending.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/index.h"

struct mb_pending_input {
    struct mb_pending rows;
    struct mb_parse_options parse;
    struct mb_index *index;
    int fd;
    char *path;
};

static enum mb_status rows_of(void *arg, uint64_t line, int32_t *n)
{
    const struct mb_pending_input *p = arg;
    struct mb_line l;
    mb_index_line(p->index, line, &l);
    *n = l.n;
    return MB_OK;
}

/* The kind a line asks for, by its keys; what can't be read would become a generate row. */
static uint8_t kind_of(const char *text, size_t n)
{
    json_t *v = NULL;
    uint8_t kind = MB_KIND_GENERATE;
    if (mb_json_parse(text, n, "line", MB_REQUEST, NULL, 0, &v) == MB_OK) {
        if (json_object_get(v, "continuation") != NULL || json_object_get(v, "continuation_ids") != NULL)
            kind = MB_KIND_LOGLIKELIHOOD;
        else if (json_object_get(v, "text") != NULL || json_object_get(v, "text_ids") != NULL)
            kind = MB_KIND_ROLLING;
    }
    json_decref(v);
    return kind;
}

static enum mb_status describe(void *arg, uint64_t line, struct mb_text *id, uint8_t *kind)
{
    struct mb_pending_input *p = arg;
    struct mb_line l;
    struct mb_line_scan s = {0};
    mb_index_line(p->index, line, &l);
    char *text = malloc((size_t)l.len + 1);
    if (text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a line of the input");
    enum mb_status st = mb_pread_all(p->fd, text, l.len, l.offset, p->path, MB_INPUT);
    if (st == MB_OK)
        st = mb_parse_scan(&p->parse, text, l.len, line, &s);
    if (st == MB_OK) {
        *id = s.id;
        *kind = p->parse.format == MB_FORMAT_TXT ? MB_KIND_GENERATE : kind_of(text, l.len);
    }
    free(text);
    return st;
}

static enum mb_status open_input(struct mb_pending_input *p, const char *path)
{
    struct mb_index_options o = {.path = path, .spool_dir = "/nonexistent", .parse = &p->parse, .shards = 1};
    mb_parse_options_init(&p->parse);
    p->parse.vocab = INT32_MAX;
    p->parse.max_len = INT32_MAX;
    p->parse.bos = -1;
    p->path = strdup(path);
    if (p->path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    MB_TRY(mb_index_create(&o, &p->index));
    p->parse.format = mb_index_info(p->index)->format;
    p->fd = open(path, O_RDONLY | O_CLOEXEC);
    return p->fd < 0 ? mb_error(MB_INPUT, "%s: %s", path, strerror(errno)) : MB_OK;
}

enum mb_status mb_pending_open(const char *path, struct mb_hash128 hash, struct mb_pending_input **out)
{
    struct stat sb;
    struct mb_pending_input *p = calloc(1, sizeof *p);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to read the input");
    p->fd = -1;
    p->rows = (struct mb_pending){p, rows_of, describe};
    enum mb_status st = MB_INPUT;
    if (stat(path, &sb) == 0 && S_ISREG(sb.st_mode))
        st = open_input(p, path);
    if (st == MB_OK) {
        struct mb_hash128 h = mb_index_info(p->index)->hash;
        st = h.lo == hash.lo && h.hi == hash.hi ? MB_OK : MB_INPUT;
    }
    if (st != MB_OK) {
        mb_pending_close(p);
        p = NULL;
    }
    if (st != MB_OK && st != MB_INPUT)
        return st;
    if (p == NULL)
        mb_warn("the input (%s) is gone or has changed: rows that are not done have line numbers as ids", path);
    *out = p;
    return MB_OK;
}

void mb_pending_close(struct mb_pending_input *p)
{
    if (p == NULL)
        return;
    mb_index_destroy(p->index);
    if (p->fd >= 0)
        close(p->fd);
    free(p->path);
    free(p);
}

const struct mb_pending *mb_pending_rows(struct mb_pending_input *p)
{
    return p == NULL ? NULL : &p->rows;
}
