#include "io/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/index_ids.h"
#include "io/split.h"
#include "io/unpack.h"

#define CHUNK ((size_t)1 << 20) /* bytes read at once */
#define BLOCK 64                /* lines per stored row number */
#define LOOK 20                 /* lines by which a file that is no JSON lines is known */

struct entry {
    uint64_t offset : 48, n : 8, flags : 8;
    uint32_t len, hash;
};
#define MAX_BYTES ((uint64_t)1 << 48) /* of an input */
_Static_assert(sizeof(struct entry) == 16, "an index of a billion lines should fit a node");

struct mb_index {
    struct mb_input_info info;
    struct entry *lines;
    uint64_t cap;
    uint64_t *rows; /* [lines / BLOCK + 1]: first row of every BLOCK-th line */
    struct mb_parse_options parse;
    struct mb_mem *mem;
    char name[PATH_MAX]; /* as it was given, without .gz or .zst */
    int looked;          /* lines so far that are no JSON at all; -1: one was */
    bool parquet, commas; /* what the first of them looks like */
    int fd;
    struct mb_publish *copy; /* of a pipe; its fd is x->fd */
};

/* --- files of another kind --------------------------------------------------------------------------------------- */

/* A few lines that are no JSON are error rows; a file that has nothing else is no input. */
static enum mb_status foreign(const struct mb_index *x)
{
    const char *what = x->parquet ? " (it is a Parquet file)" : x->commas ? " (a CSV file?)" : "";

    return mb_error(MB_INPUT, "%s: its first %d line%s no JSON%s; requests are JSON lines (pandas: df.to_json(FILE, orient=\"records\", "
                    "lines=True)), *.txt with one prompt a line, or *.json", x->info.path, x->looked,
                    x->looked == 1 ? " is" : "s are", what);
}

static enum mb_status look(struct mb_index *x, const struct mb_cut *c, bool is_foreign)
{
    if (x->looked < 0 || x->info.format != MB_FORMAT_JSONL)
        return MB_OK;
    if (x->looked == 0 && c->text != NULL) {
        x->parquet = c->len >= 4 && memcmp(c->text, "PAR1", 4) == 0;
        x->commas = memchr(c->text, ',', c->len) != NULL;
    }
    x->looked = is_foreign ? x->looked + 1 : -1;
    return x->looked == LOOK ? foreign(x) : MB_OK;
}

/* --- the pass ---------------------------------------------------------------------------------------------------- */

static enum mb_status no_memory(uint64_t lines)
{
    return mb_error(MB_NO_MEMORY, "no memory for the index of %llu input lines; split the input with --shard",
                    (unsigned long long)lines);
}

static enum mb_status grow(struct mb_index *x)
{
    if (x->info.total_lines < x->cap)
        return MB_OK;
    uint64_t cap = x->cap ? 2 * x->cap : 1024;
    struct entry *p = mb_grow(x->mem, MB_MEM_INDEX, x->lines, cap, sizeof *p);
    if (p == NULL)
        return no_memory(cap);
    x->lines = p;
    x->cap = cap;
    return MB_OK;
}

static enum mb_status add_line(struct mb_index *x, struct mb_ids_seen *ids, const struct mb_cut *c)
{
    uint64_t line = x->info.total_lines;
    struct entry e = {.offset = c->offset & (MAX_BYTES - 1), .len = (uint32_t)c->len};
    struct mb_line_scan scan = {0};

    MB_TRY(grow(x));
    if (c->text == NULL) {
        e.len = 0;
        e.n = 1;
        e.flags = MB_LINE_TOO_LONG | MB_LINE_BAD;
        MB_TRY(mb_ids_seen_number(ids, line));
        MB_TRY(look(x, c, true));
    } else if (!mb_line_blank(c->text, c->len, x->info.format)) {
        MB_TRY(mb_parse_scan(&x->parse, c->text, c->len, line, &scan));
        enum mb_status st = mb_ids_seen_put(ids, &scan.id, line);
        free(scan.id.data);
        MB_TRY(st);
        e.n = (uint8_t)scan.n;
        e.flags = scan.bad ? MB_LINE_BAD : 0;
        MB_TRY(look(x, c, scan.foreign));
        e.hash = mb_line_hash(c->text, c->len);
    }
    x->lines[line] = e;
    x->info.total_lines++;
    return MB_OK;
}

static enum mb_status cut_lines(struct mb_index *x, struct mb_splitter *s, struct mb_ids_seen *ids)
{
    struct mb_cut c;
    const char *why;
    bool got;

    for (;;) {
        if (mb_splitter_next(s, &c, &got, &why) != MB_OK)
            return mb_error(MB_INPUT, "%s: no JSON array of requests: %s (after element %llu)", x->info.path, why,
                            (unsigned long long)x->info.total_lines);
        if (!got)
            return MB_OK;
        MB_TRY(add_line(x, ids, &c));
    }
}

static enum mb_status read_some(struct mb_index *x, void *buf, uint64_t off, size_t *got)
{
    ssize_t n;
    do {
        n = pread(x->fd, buf, CHUNK, (off_t)off);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return mb_error(MB_IO, "%s: reading at byte %llu: %s", x->info.path, (unsigned long long)off, strerror(errno));
    *got = (size_t)n;
    return MB_OK;
}

static enum mb_status pass(struct mb_index *x, struct mb_ids_seen *ids, struct mb_hasher *h, uint8_t *buf)
{
    struct mb_splitter s;
    enum mb_status st = MB_OK;
    uint64_t off = 0;
    size_t got = 1;

    mb_splitter_init(&s, MB_FORMAT_JSONL, 0, x->mem);
    while (st == MB_OK && got > 0) {
        size_t skip = 0;
        st = read_some(x, buf, off, &got);
        if (st != MB_OK)
            break;
        mb_hasher_put(h, buf, got);
        if (off == 0) {
            x->info.format = x->parse.format = mb_format_of(x->name, buf, got, &skip);
            mb_splitter_init(&s, x->info.format, skip, x->mem);
        }
        if (got == 0 || got > skip)
            st = mb_splitter_put(&s, buf + skip, got - skip);
        if (st == MB_OK)
            st = cut_lines(x, &s, ids);
        off += got;
        if (st == MB_OK && off >= MAX_BYTES)
            st = mb_error(MB_INPUT, "%s: has more than 256 TiB; split it", x->info.path);
    }
    mb_splitter_fini(&s);
    if (st == MB_OK && x->looked > 0)
        st = foreign(x);
    x->info.bytes = off;
    x->info.hash = mb_hasher_128(h);
    return st;
}

static enum mb_status run_pass(struct mb_index *x, struct mb_ids_seen *ids)
{
    struct mb_hasher *h = mb_hasher_create();
    uint8_t *buf = mb_alloc(x->mem, MB_MEM_INDEX, CHUNK, 1);
    enum mb_status st = h != NULL && buf != NULL ? pass(x, ids, h, buf) : no_memory(0);

    mb_free(buf);
    mb_hasher_destroy(h);
    return st;
}

/* --- repeated ids ------------------------------------------------------------------------------------------------ */

/* The id of a line again, from the file: equal hashes are no proof. */
static enum mb_status id_of_line(void *arg, uint64_t line, struct mb_text *id)
{
    struct mb_index *x = arg;
    struct entry *e = &x->lines[line];
    struct mb_line_scan scan = {0};
    uint8_t *buf = mb_alloc(x->mem, MB_MEM_INDEX, e->len, 1);

    if (buf == NULL)
        return no_memory(line);
    enum mb_status st = mb_pread_all(x->fd, buf, e->len, e->offset, x->info.path, MB_INPUT);
    if (st == MB_OK)
        st = mb_parse_scan(&x->parse, buf, e->len, line, &scan);
    if (st == MB_OK)
        *id = scan.id;
    mb_free(buf);
    return st;
}

static void repeated(void *arg, uint64_t line)
{
    struct mb_index *x = arg;
    x->lines[line].flags |= MB_LINE_DUPLICATE | MB_LINE_BAD;
    x->lines[line].n = 1;
}

/* --- rows and shards --------------------------------------------------------------------------------------------- */

/* The first `extra` shards have a line more than the others. */
static uint64_t shard_begin(uint64_t total, uint64_t shard, uint64_t shards)
{
    uint64_t each = total / shards, extra = total % shards;
    return each * shard + (shard < extra ? shard : extra);
}

static enum mb_status keep_shard(struct mb_index *x, const struct mb_index_options *o)
{
    uint64_t shards = o->shards > 1 ? (uint64_t)o->shards : 1, shard = o->shards > 1 ? (uint64_t)o->shard : 0;
    uint64_t first = shard_begin(x->info.total_lines, shard, shards);
    uint64_t end = shard_begin(x->info.total_lines, shard + 1, shards), n = end - first;

    if (n > 0)
        memmove(x->lines, x->lines + first, n * sizeof *x->lines);
    struct entry *p = mb_grow(x->mem, MB_MEM_INDEX, x->lines, n, sizeof *p);
    if (p == NULL)
        return no_memory(n);
    x->lines = p;
    x->info.first = first;
    x->info.lines = x->cap = n;
    return MB_OK;
}

static enum mb_status count_rows(struct mb_index *x)
{
    uint64_t row = 0, n = x->info.lines;

    x->rows = mb_alloc(x->mem, MB_MEM_INDEX, n / BLOCK + 1, sizeof *x->rows);
    if (x->rows == NULL)
        return no_memory(n);
    for (uint64_t i = 0; i <= n; i++) {
        if (i % BLOCK == 0)
            x->rows[i / BLOCK] = row;
        if (i == n)
            break;
        row += x->lines[i].n;
        x->info.requests += x->lines[i].n > 0;
        x->info.bad += (x->lines[i].flags & MB_LINE_BAD) != 0;
    }
    x->info.rows = row;
    return MB_OK;
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static enum mb_status copy_all(int from, int to, const char *name, const char *path, uint8_t *buf)
{
    for (;;) {
        ssize_t n = read(from, buf, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mb_error(MB_IO, "%s: reading: %s", name, strerror(errno));
        if (n == 0)
            return MB_OK;
        MB_TRY(mb_write_all(to, buf, (size_t)n, path));
    }
}

/* Nothing was piped in, and an earlier start has kept what it got. */
static enum mb_status use_kept(struct mb_index *x, const char *from)
{
    x->fd = open(x->info.path, O_RDONLY | O_CLOEXEC);
    if (x->fd < 0)
        return mb_error(MB_INPUT, "%s: %s", x->info.path, strerror(errno));
    mb_info("%s is %s: the input is %s, which the first start copied", strcmp(from, "-") == 0 ? "standard input" : from,
            "empty", x->info.path);
    return MB_OK;
}

/* Copies a pipe to a temporary file; *bytes of it. */
static enum mb_status copy_pipe(struct mb_index *x, int from, enum mb_packed packed, const char *name, int64_t *bytes)
{
    uint8_t *buf = mb_alloc(x->mem, MB_MEM_INDEX, CHUNK, 1);
    struct stat sb;
    if (buf == NULL)
        return no_memory(0);
    enum mb_status st = mb_publish_open(x->info.path, NULL, 0, &x->copy);
    if (st == MB_OK)
        st = packed == MB_PACKED_NOT ? copy_all(from, x->copy->fd, name, x->copy->tmp, buf)
                                     : mb_unpack(packed, from, name, x->copy->fd, x->copy->tmp);
    if (st == MB_OK && fstat(x->copy->fd, &sb) != 0)
        st = mb_file_error(errno, x->copy->tmp, "stat");
    if (st == MB_OK)
        *bytes = (int64_t)sb.st_size;
    mb_free(buf);
    return st;
}

/* A pipe can be read once, by one process, a packed file only from its beginning: a copy can be read by all, at any place. It
 * gets its name later
 * (mb_index_take_copy), so that one which belongs to a job that is there already is never lost. */
static enum mb_status spool(struct mb_index *x, int from, enum mb_packed packed, const struct mb_index_options *o)
{
    int64_t bytes = 0;
    if (o->spool_dir == NULL)
        return mb_error(MB_BUG, "no directory to copy the input to");
    if (snprintf(x->info.path, sizeof x->info.path, "%s/input", o->spool_dir) >= (int)sizeof x->info.path)
        return mb_error(MB_INPUT, "%.64s...: the path is too long", o->spool_dir);
    bool kept = o->kept && mb_path_exists(x->info.path);
    x->info.spooled = true;
    if (kept && isatty(from))
        return use_kept(x, o->path);
    MB_TRY(copy_pipe(x, from, packed, o->path, &bytes));
    if (bytes == 0 && kept) {
        mb_publish_drop(x->copy);
        x->copy = NULL;
        return use_kept(x, o->path);
    }
    x->info.nothing = bytes == 0;
    x->fd = x->copy->fd;
    return MB_OK;
}

/* prompts.txt.gz holds what prompts.txt would. */
static void keep_name(struct mb_index *x, const char *path)
{
    static const char *const tails[] = {".gz", ".zst"};

    strcpy(x->name, path);
    for (size_t i = 0, n = strlen(path); i < 2; i++) {
        size_t k = strlen(tails[i]);
        if (n > k && strcmp(path + n - k, tails[i]) == 0)
            x->name[n - k] = 0;
    }
}

static enum mb_status open_input(struct mb_index *x, const struct mb_index_options *o)
{
    bool is_stdin = strcmp(o->path, "-") == 0;
    struct stat sb;

    if (is_stdin)
        return spool(x, STDIN_FILENO, MB_PACKED_NOT, o);
    if (strlen(o->path) >= sizeof x->info.path)
        return mb_error(MB_INPUT, "%.64s...: the path is too long", o->path);
    int fd = open(o->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mb_error(MB_INPUT, "%s: %s", o->path, strerror(errno));
    if (fstat(fd, &sb) != 0 || S_ISDIR(sb.st_mode)) {
        close(fd);
        return mb_error(MB_INPUT, "%s: is a directory; name a file with one request a line", o->path);
    }
    keep_name(x, o->path);
    enum mb_packed packed = S_ISREG(sb.st_mode) ? mb_packed_of(fd) : MB_PACKED_NOT;
    if (!S_ISREG(sb.st_mode) || packed != MB_PACKED_NOT) {
        enum mb_status st = spool(x, fd, packed, o);
        close(fd);
        return st;
    }
    strcpy(x->info.path, o->path);
    x->fd = fd;
    return MB_OK;
}

static enum mb_status build(struct mb_index *x, const struct mb_index_options *o)
{
    struct mb_ids_seen ids = {.mem = o->mem};
    enum mb_status st = open_input(x, o);

    if (st == MB_OK)
        st = run_pass(x, &ids);
    if (st == MB_OK)
        st = mb_ids_seen_repeated(&ids, id_of_line, repeated, x);
    mb_ids_seen_fini(&ids);
    if (st == MB_OK)
        st = keep_shard(x, o);
    return st == MB_OK ? count_rows(x) : st;
}

enum mb_status mb_index_create(const struct mb_index_options *o, struct mb_index **out)
{
    struct mb_index *x = mb_zalloc(o->mem, MB_MEM_INDEX, 1, sizeof *x);

    if (x == NULL)
        return no_memory(0);
    x->fd = -1;
    x->mem = o->mem;
    x->parse = *o->parse;
    enum mb_status st = build(x, o);
    if (x->fd >= 0 && x->copy == NULL)
        close(x->fd);
    if (st != MB_OK) {
        mb_index_destroy(x);
        return st;
    }
    *out = x;
    return MB_OK;
}

void mb_index_destroy(struct mb_index *x)
{
    if (x == NULL)
        return;
    mb_publish_drop(x->copy);
    mb_free(x->lines);
    mb_free(x->rows);
    mb_free(x);
}

struct mb_publish *mb_index_take_copy(struct mb_index *x)
{
    struct mb_publish *copy = x->copy;
    x->copy = NULL;
    return copy;
}

uint32_t mb_line_hash(const void *text, size_t n)
{
    return (uint32_t)mb_hash64(text, n);
}

/* --- questions --------------------------------------------------------------------------------------------------- */

const struct mb_input_info *mb_index_info(const struct mb_index *x)
{
    return &x->info;
}

void mb_index_line(const struct mb_index *x, uint64_t line, struct mb_line *out)
{
    const struct entry *e = &x->lines[line - x->info.first];
    *out = (struct mb_line){e->offset, e->len, e->flags, e->n, e->hash};
}

uint64_t mb_index_row(const struct mb_index *x, uint64_t line)
{
    uint64_t i = line - x->info.first, row = x->rows[i / BLOCK];

    for (uint64_t j = i / BLOCK * BLOCK; j < i; j++)
        row += x->lines[j].n;
    return row;
}

void mb_index_find(const struct mb_index *x, uint64_t row, uint64_t *line, int32_t *choice)
{
    uint64_t lo = 0, hi = x->info.lines / BLOCK;

    while (lo < hi) { /* the last block that begins at or before the row */
        uint64_t mid = lo + (hi - lo + 1) / 2;
        if (x->rows[mid] <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    uint64_t i = lo * BLOCK, left = row - x->rows[lo];
    while (left >= x->lines[i].n)
        left -= x->lines[i++].n;
    *line = x->info.first + i;
    *choice = (int32_t)left;
}
