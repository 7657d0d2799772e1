/* The source on several ranks: every line once, with its contents, whoever is slow; what earlier runs know arrives; what
 * ranks other than 0 hold does not grow with the input. */
#include "mpi_comm.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/publish.h"
#include "fake_tokenizer.h"
#include "io/source.h"

static struct mb_comm *c;
static struct mb_mem mem;
static int rank, size;
static int64_t filled; /* calls of mb_resume_fill */

/* What earlier runs know, as a rule instead of journals: every third line is done, every seventh is under way. */
struct mb_resume {
    struct mb_resume_entry entry;
};

void mb_resume_line(const struct mb_resume *r, uint64_t line, bool *done, const struct mb_resume_entry **entries, int32_t *n)
{
    *done = line % 3 == 0;
    *n = line % 7 == 0 && !*done;
    *entries = &r->entry;
    ((struct mb_resume *)r)->entry = (struct mb_resume_entry){line, 100 * line, 5, 0, 2};
}

enum mb_status mb_resume_fill(const char *run_dir, const struct mb_resume_entry *entries, int32_t n, struct mb_request *req)
{
    CHECK(strcmp(run_dir, "the-run") == 0);
    CHECK(n == 1 && entries->line == req->line && entries->offset == 100 * req->line && entries->n_forced == 2);
    filled++;
    return MB_OK;
}

/* Line i: empty, nonsense, a repeated id, text that is too long, or a request whose first ids spell i. */
static void write_input(const char *path, int lines)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; i < lines; i++) {
        if (i % 20 == 11)
            fputs("\n", f);
        else if (i % 20 == 12)
            fputs("{\"id\":\n", f);
        else if (i % 50 == 13)
            fprintf(f, "{\"id\":\"first\",\"prompt\":\"a\"}\n");
        else if (i % 50 == 14)
            fprintf(f, "{\"id\":\"i%d\",\"n\":3,\"prompt\":\"%*d\"}\n", i, 3000, i);
        else
            fprintf(f, "{\"id\":\"i%d\",\"n\":%d,\"prompt_ids\":[%d,%d]}\n", i, i % 4 + 1, i / 256, i % 256);
    }
    fclose(f);
}

static void check_request(const struct mb_request *r)
{
    int i = (int)r->line;
    if (i % 20 == 12)
        CHECK(r->error != NULL && strncmp(r->error, "not JSON", 8) == 0 && r->n == 1);
    else if (i % 50 == 13)
        CHECK(i == 13 ? r->error == NULL : strncmp(r->error, "duplicate id", 12) == 0);
    else if (i % 50 == 14)
        CHECK(r->error != NULL && strncmp(r->error, "too long", 8) == 0 && r->n == 3);
    else
        CHECK(r->error == NULL && r->n == i % 4 + 1 && r->n_prompt == 2 && r->prompt[0] == i / 256 && r->prompt[1] == i % 256);
}

struct setup {
    struct mb_index *index;
    struct mb_lease *lease;
    struct mb_input_info info;
    struct mb_source *source;
};

static void open_source(struct setup *s, const char *path, int lines, int capacity, struct mb_resume *resume)
{
    static struct mb_tokenizer tok;
    struct mb_parse_options parse;

    memset(s, 0, sizeof *s);
    mb_parse_options_init(&parse);
    parse.tok = &tok;
    parse.mem = &mem;
    parse.vocab = FAKE_VOCAB;
    parse.max_len = 256;
    if (rank == 0) {
        write_input(path, lines);
        struct mb_index_options io = {.path = path, .parse = &parse, .shards = 1, .mem = &mem};
        CHECK(mb_index_create(&io, &s->index) == MB_OK);
        struct mb_lease_options lo = {c, s->index, resume, size, size, capacity, 0, &mem, MB_LINES_INPUT};
        CHECK(mb_lease_create(&lo, &s->lease) == MB_OK);
        s->info = *mb_index_info(s->index);
    }
    CHECK(mb_comm_bcast(c, &s->info, sizeof s->info, 0, "input") == MB_OK);
    struct mb_input_source_options o = {c, &s->info, &parse, s->lease, "the-run", &mem};
    CHECK(mb_input_source_create(&o, &s->source) == MB_OK);
}

static void close_source(struct setup *s)
{
    CHECK(mb_ctl_flush(c) == MB_OK);
    mb_input_source_destroy(s->source);
    mb_lease_destroy(s->lease);
    mb_index_destroy(s->index);
    CHECK(mb_comm_barrier(c, "end of a test") == MB_OK);
    CHECK(mem.now[MB_MEM_REQUESTS] == 0 && mem.now[MB_MEM_INDEX] == 0);
}

/* How often rank 0 has asked for requests, for all ranks to see (a shared mapping). NULL: nobody looks. */
static int64_t *progress;

/* The last rank asks once for every ten times that rank 0 asks, however fast the machine. */
static void keep_pace(int64_t asked, bool end)
{
    if (progress == NULL)
        return;
    if (rank == 0)
        __atomic_store_n(progress, end ? INT64_MAX : asked, __ATOMIC_RELEASE);
    while (rank == size - 1 && rank > 0 && !end && __atomic_load_n(progress, __ATOMIC_ACQUIRE) < 10 * asked)
        usleep(200);
}

/* Takes requests until the end, `room` at a time; seen[line]++ . Returns lines taken. */
static int64_t run(struct setup *s, int32_t room, uint8_t *seen)
{
    struct mb_request *out[64];
    enum mb_source_state state = MB_SOURCE_WAIT;
    double start = mb_now();
    int64_t taken = 0, asked = 0;
    int32_t n;

    while (state != MB_SOURCE_END) {
        CHECK(s->source->ops->next(s->source, room, out, &n, &state) == MB_OK);
        CHECK(n <= room && (n > 0) == (state == MB_SOURCE_SOME));
        for (int32_t i = 0; i < n; i++) {
            check_request(out[i]);
            seen[out[i]->line]++;
            mb_request_destroy(out[i]);
        }
        taken += n;
        if (state == MB_SOURCE_WAIT)
            usleep(200);
        keep_pace(++asked, state == MB_SOURCE_END);
        CHECK(mb_now() - start < 40);
    }
    return taken;
}

/* Who has seen what: each line that is to be done was seen once, by one rank. */
static void check_once(const uint8_t *seen, int lines, bool resumed)
{
    uint8_t *all = malloc((size_t)size * (size_t)lines);
    CHECK(mb_comm_allgather(c, seen, (uint64_t)lines, all, "lines seen") == MB_OK);
    for (int i = 0; i < lines; i++) {
        int n = 0;
        for (int r = 0; r < size; r++)
            n += all[(size_t)r * (size_t)lines + (size_t)i];
        CHECK(n == (i % 20 != 11 && !(resumed && i % 3 == 0)));
    }
    free(all);
}

/* Eight bytes of a file beside the input. Collective. */
static int64_t *share_progress(const char *path)
{
    char *name = NULL;
    int64_t zero = 0;

    CHECK(asprintf(&name, "%s.progress", path) > 0);
    if (rank == 0)
        CHECK(mb_publish_bytes(name, &zero, sizeof zero, 0) == MB_OK);
    CHECK(mb_comm_barrier(c, "a file is there") == MB_OK);
    int fd = open(name, O_RDWR);
    int64_t *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    close(fd);
    CHECK(mb_comm_barrier(c, "a file is mapped") == MB_OK);
    if (rank == 0)
        unlink(name);
    free(name);
    return p;
}

static void test_slow_rank(const char *path)
{
    enum { LINES = 3000 };
    static uint8_t seen[LINES];
    struct setup s;
    int64_t *per_rank = calloc((size_t)size, sizeof *per_rank);

    open_source(&s, path, LINES, 16, NULL);
    progress = share_progress(path);
    int64_t mine = run(&s, 16, seen);
    munmap(progress, sizeof *progress);
    progress = NULL;
    CHECK(mb_comm_allgather(c, &mine, sizeof mine, per_rank, "lines per rank") == MB_OK);
    check_once(seen, LINES, false);
    if (size > 1) /* ten times slower than rank 0: it has left most of its share to the others */
        CHECK(per_rank[size - 1] < LINES / size / 2 && per_rank[size - 1] >= 16);
    if (rank > 0) /* a window of the file, a lease, a batch */
        CHECK(mem.peak[MB_MEM_REQUESTS] < 700000 && mem.peak[MB_MEM_INDEX] == 0);
    close_source(&s);
    free(per_rank);
}

static void test_small(const char *path)
{
    static uint8_t seen[11];
    struct setup s;
    int64_t *per_rank = calloc((size_t)size, sizeof *per_rank);

    open_source(&s, path, 11, 64, NULL);
    if (rank > 0)
        usleep(100000); /* rank 0 would have time to take everything */
    int64_t mine = run(&s, 16, seen);
    CHECK(mb_comm_allgather(c, &mine, sizeof mine, per_rank, "lines per rank") == MB_OK);
    for (int r = 0; r < size; r++)
        CHECK(per_rank[r] >= 11 / size && per_rank[r] <= (11 + size - 1) / size);
    check_once(seen, 11, false);
    close_source(&s);
    free(per_rank);
}

static void test_resume(const char *path)
{
    enum { LINES = 1000 };
    static uint8_t seen[LINES];
    struct mb_resume resume;
    struct setup s;
    int64_t known = 0, fills;

    filled = 0;
    open_source(&s, path, LINES, 8, &resume);
    run(&s, 5, seen);
    check_once(seen, LINES, true);
    for (int i = 0; i < LINES; i++)
        known += i % 7 == 0 && i % 3 != 0 && i % 20 != 11;
    fills = filled;
    CHECK(mb_comm_sum_i64(c, &fills, 1, "fills") == MB_OK);
    CHECK(fills == known);
    close_source(&s);
}

int main(int argc, char **argv)
{
    char path[64] = "";
    struct mb_comm_options opt = {.mem = &mem, .deadline = 50};

    MPI_Init(&argc, &argv);
    CHECK(mb_comm_create(&opt, &c) == MB_OK);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    if (rank == 0) {
        strcpy(path, "/tmp/mpi_lease.XXXXXX");
        int fd = mkstemp(path);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK(mb_comm_bcast(c, path, sizeof path, 0, "path") == MB_OK);
    test_small(path);
    test_slow_rank(path);
    test_resume(path);
    if (rank == 0)
        unlink(path);
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
