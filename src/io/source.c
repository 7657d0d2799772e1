#include "io/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/resume.h"

#define WINDOW ((uint64_t)256 << 10) /* bytes read at once: neighbouring lines come from one read */
#define BUDGET ((uint64_t)1 << 20)   /* bytes of lines parsed in one next(): a step is not held up longer */

struct input_source {
    struct mb_source base;
    struct mb_comm *comm;
    struct mb_lease *lease;
    struct mb_parse_options parse;
    struct mb_mem *mem;
    char *path, *run_dir;
    uint64_t bytes; /* of the input */
    int fd;
    struct mb_lease_line *lines; /* leased: [at, n) are still to do */
    int64_t at, n;
    int64_t block;               /* lines of the last block */
    struct mb_resume_entry *known;
    int64_t known_at, n_known;
    bool asked, end;
    uint8_t *window; /* bytes [window_off, window_off + window_len) of the file */
    uint64_t window_off, window_len, window_cap;
};

static struct input_source *from_base(const struct mb_source *s)
{
    return (struct input_source *)s;
}

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for input lines; use a smaller --max-num-seqs");
}

/* --- leases ------------------------------------------------------------------------------------------------------ */

/* Drops the first `at` of n elements of an array and appends `more`. */
static enum mb_status append(struct mb_mem *mem, void **array, size_t size, int64_t *at, int64_t *n, const void *more,
                             size_t count)
{
    size_t keep = (size_t)(*n - *at);
    char *p = mb_alloc(mem, MB_MEM_REQUESTS, keep + count, size);

    if (p == NULL)
        return no_memory();
    if (keep > 0)
        memcpy(p, (char *)*array + (size_t)*at * size, keep * size);
    if (count > 0)
        memcpy(p + keep * size, more, count * size);
    mb_free(*array);
    *array = p;
    *at = 0;
    *n = (int64_t)(keep + count);
    return MB_OK;
}

static enum mb_status take(struct input_source *s, const struct mb_bytes *msg)
{
    struct mb_lease_head head;
    size_t lines, known;

    if (msg->len < sizeof head)
        return mb_error(MB_BUG, "a lease of %zu bytes", msg->len);
    memcpy(&head, msg->data, sizeof head);
    lines = (size_t)head.n_lines * sizeof *s->lines;
    known = (size_t)head.n_entries * sizeof *s->known;
    if (msg->len != sizeof head + lines + known)
        return mb_error(MB_BUG, "a lease of %zu bytes has %u lines and %u entries", msg->len, head.n_lines, head.n_entries);
    MB_TRY(append(s->mem, (void **)&s->lines, sizeof *s->lines, &s->at, &s->n, msg->data + sizeof head, head.n_lines));
    if (head.n_entries > 0 || s->known_at > 0)
        MB_TRY(append(s->mem, (void **)&s->known, sizeof *s->known, &s->known_at, &s->n_known,
                      msg->data + sizeof head + lines, head.n_entries));
    s->block = head.n_lines;
    s->asked = false;
    s->end = head.end != 0;
    return MB_OK;
}

static enum mb_status receive(struct input_source *s)
{
    struct mb_bytes msg = {0};
    bool got = true;
    int from;
    enum mb_status st = s->lease != NULL ? mb_lease_serve(s->lease) : MB_OK;

    while (st == MB_OK && got) {
        st = mb_ctl_poll(s->comm, MB_CTL_LEASE, &from, &msg, &got);
        if (st == MB_OK && got)
            st = take(s, &msg);
    }
    mb_bytes_fini(&msg);
    return st;
}

/* Asks when half of the last block is used up: the answer is here before the rest is. */
static enum mb_status ask_ahead(struct input_source *s)
{
    if (s->asked || s->end || s->n - s->at > s->block / 2)
        return MB_OK;
    MB_TRY(mb_ctl_send(s->comm, 0, MB_CTL_LEASE_ASK, NULL, 0));
    s->asked = true;
    return MB_OK;
}

/* --- lines ------------------------------------------------------------------------------------------------------- */

static enum mb_status text_of(struct input_source *s, const struct mb_lease_line *l, const uint8_t **text)
{
    uint64_t end;

    if (!mb_add_ok(l->offset, l->len, &end) || end > s->bytes)
        return mb_error(MB_BUG, "line %llu was leased beyond the end of the input", (unsigned long long)l->line + 1);
    if (l->offset < s->window_off || end > s->window_off + s->window_len) {
        uint64_t want = l->len > WINDOW ? l->len : WINDOW;
        if (want > s->bytes - l->offset)
            want = s->bytes - l->offset;
        s->window_len = 0;
        if (want > s->window_cap || (s->window_cap > 4 * WINDOW && want <= WINDOW)) {
            mb_free(s->window); /* a long line's buffer is not kept for short ones */
            s->window_cap = 0;
            s->window = mb_alloc(s->mem, MB_MEM_REQUESTS, want, 1);
            if (s->window == NULL)
                return no_memory();
            s->window_cap = want;
        }
        MB_TRY(mb_pread_all(s->fd, s->window, want, l->offset, s->path, MB_INPUT));
        s->window_off = l->offset;
        s->window_len = want;
    }
    *text = s->window + (l->offset - s->window_off);
    return MB_OK;
}

static enum mb_status resume_of(struct input_source *s, struct mb_request *r)
{
    int64_t from = s->known_at;

    while (s->known_at < s->n_known && s->known[s->known_at].line == r->line)
        s->known_at++;
    if (s->known_at == from)
        return MB_OK;
    return mb_resume_fill(s->run_dir, s->known + from, (int32_t)(s->known_at - from), r);
}

static enum mb_status make(struct input_source *s, const struct mb_lease_line *l, struct mb_request **out)
{
    struct mb_request *r = NULL;
    const uint8_t *text = NULL;
    enum mb_status st = MB_OK;

    if (!(l->flags & MB_LINE_TOO_LONG))
        MB_TRY(text_of(s, l, &text));
    if (text != NULL && mb_line_hash(text, l->len) != l->hash)
        return mb_error(MB_INPUT, "%s: line %llu is not what it was when the job began: an input must not change while a job "
                                  "needs it; start afresh with --overwrite, or restore the file and resume", s->path,
                        (unsigned long long)l->line + 1);
    if (l->flags & MB_LINE_TOO_LONG)
        st = mb_parse_refused(&s->parse, NULL, 0, l->line, "the line is longer than 64 MiB", &r);
    else if (l->flags & MB_LINE_DUPLICATE)
        st = mb_parse_refused(&s->parse, text, l->len, l->line, "duplicate id: an earlier line has it", &r);
    else
        st = mb_parse_line(&s->parse, text, l->len, l->line, &r);
    if (st == MB_OK && r->n != l->n)
        st = mb_error(MB_INPUT, "%s: line %llu has %d choices, and had %d when the job began; the input must not change", s->path,
                      (unsigned long long)l->line + 1, r->n, l->n);
    if (st == MB_OK)
        st = resume_of(s, r);
    if (st != MB_OK) {
        mb_request_destroy(r);
        return st;
    }
    *out = r;
    return MB_OK;
}

static enum mb_status parse_some(struct input_source *s, int32_t room, struct mb_request **out, int32_t *n)
{
    uint64_t bytes = 0;

    while (*n < room && s->at < s->n && bytes < BUDGET) {
        const struct mb_lease_line *l = &s->lines[s->at];
        enum mb_status st = make(s, l, &out[*n]);
        if (st != MB_OK) {
            while (*n > 0)
                mb_request_destroy(out[--*n]);
            return st;
        }
        bytes += l->len;
        s->at++;
        ++*n;
    }
    return MB_OK;
}

/* Rank 0's own end waits until the others know theirs: they depend on its calls of next(). */
static bool is_over(const struct input_source *s)
{
    return s->end && s->at == s->n && (s->lease == NULL || mb_lease_over(s->lease, mb_now()));
}

static enum mb_status next(struct mb_source *base, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state)
{
    struct input_source *s = from_base(base);
    int32_t got = 0;

    MB_TRY(receive(s));
    MB_TRY(ask_ahead(s));
    if (s->lease != NULL && s->asked)
        MB_TRY(receive(s)); /* rank 0 answers itself at once */
    MB_TRY(parse_some(s, room, out, &got));
    enum mb_status st = ask_ahead(s);
    if (st != MB_OK) {
        while (got > 0)
            mb_request_destroy(out[--got]);
        return st;
    }
    *n = got;
    *state = got > 0 ? MB_SOURCE_SOME : is_over(s) ? MB_SOURCE_END : MB_SOURCE_WAIT;
    return MB_OK;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static enum mb_status open_input(struct input_source *s)
{
    struct stat sb;

    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &sb) != 0)
        return mb_error(MB_INPUT, "%s: %s; the input must lie on a file system that all ranks see", s->path, strerror(errno));
    if ((uint64_t)sb.st_size < s->bytes)
        return mb_error(MB_INPUT, "%s: has %lld bytes here and %llu on rank 0; all ranks must see the same file", s->path,
                        (long long)sb.st_size, (unsigned long long)s->bytes);
    return MB_OK;
}

enum mb_status mb_input_source_create(const struct mb_input_source_options *o, struct mb_source **out)
{
    static const struct mb_source_ops ops = {next};
    struct input_source *s = mb_zalloc(o->mem, MB_MEM_REQUESTS, 1, sizeof *s);

    if (s == NULL)
        return no_memory();
    s->base.ops = &ops;
    s->comm = o->comm;
    s->lease = o->lease;
    s->parse = *o->parse;
    s->parse.format = o->info->format;
    s->mem = o->mem;
    s->bytes = o->info->bytes;
    s->fd = -1;
    s->path = strdup(o->info->path);
    s->run_dir = strdup(o->run_dir != NULL ? o->run_dir : ".");
    enum mb_status st = s->path != NULL && s->run_dir != NULL ? open_input(s) : no_memory();
    if (st == MB_OK)
        st = ask_ahead(s);
    if (st != MB_OK) {
        mb_input_source_destroy(&s->base);
        return st;
    }
    *out = &s->base;
    return MB_OK;
}

void mb_input_source_destroy(struct mb_source *base)
{
    if (base == NULL)
        return;
    struct input_source *s = from_base(base);
    if (s->fd >= 0)
        close(s->fd);
    free(s->path);
    free(s->run_dir);
    mb_free(s->lines);
    mb_free(s->known);
    mb_free(s->window);
    mb_free(s);
}

int64_t mb_input_source_queued(const struct mb_source *base)
{
    const struct input_source *s = from_base(base);
    return s->n - s->at;
}
