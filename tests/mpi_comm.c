/* Everything of comm.h on as many ranks as the program's name says. */
#include "mpi_comm.h"

#include "comm/group.h"

static _Thread_local struct mb_comm *c; /* ranks may be threads (mpi_threads.c) */
static _Thread_local int rank, size;

static void test_bcast(void)
{
    uint64_t n = (70u << 20) + 13; /* more than one piece */
    uint8_t *p = malloc(n);

    for (int root = 0; root < size; root += size > 2 ? size - 1 : 1) {
        for (uint64_t i = 0; i < n; i++)
            p[i] = rank == root ? (uint8_t)(i * 31 + (i >> 13) + (uint64_t)root) : 0;
        CHECK(mb_comm_bcast(c, p, n, root, "test") == MB_OK);
        for (uint64_t i = 0; i < n; i += 977)
            CHECK(p[i] == (uint8_t)(i * 31 + (i >> 13) + (uint64_t)root));
        CHECK(p[n - 1] == (uint8_t)((n - 1) * 31 + ((n - 1) >> 13) + (uint64_t)root));
    }
    free(p);
    CHECK(mb_comm_bcast(c, NULL, 0, 0, "nothing") == MB_OK);
}

static void test_bcast_bytes(void)
{
    struct mb_bytes b = {0};
    int root = size - 1;

    CHECK(mb_bytes_put(&b, "old contents", 12) == MB_OK);
    if (rank == root) {
        b.len = 0;
        CHECK(mb_bytes_put(&b, "a model table", 13) == MB_OK);
    }
    CHECK(mb_comm_bcast_bytes(c, &b, root, "table") == MB_OK);
    CHECK(b.len == 13 && memcmp(b.data, "a model table", 13) == 0);
    if (rank == root)
        b.len = 0;
    CHECK(mb_comm_bcast_bytes(c, &b, root, "empty") == MB_OK);
    CHECK(b.len == 0);
    mb_bytes_fini(&b);
}

static void test_gather_reduce(void)
{
    int32_t in[3] = {rank, rank * rank, -rank}, *out = malloc((size_t)size * sizeof in);
    int64_t v[2] = {rank, -rank}, w[2] = {1, rank};

    CHECK(mb_comm_allgather(c, in, sizeof in, out, "numbers") == MB_OK);
    for (int r = 0; r < size; r++)
        CHECK(out[3 * r] == r && out[3 * r + 1] == r * r && out[3 * r + 2] == -r);
    free(out);
    CHECK(mb_comm_max_i64(c, v, 2, "max") == MB_OK);
    CHECK(v[0] == size - 1 && v[1] == 0);
    CHECK(mb_comm_sum_i64(c, w, 2, "sum") == MB_OK);
    CHECK(w[0] == size && w[1] == (int64_t)size * (size - 1) / 2);
}

static void test_agree(void)
{
    CHECK(mb_comm_agree(c, MB_OK, "all fine") == MB_OK);
    CHECK(mb_comm_agree(c, rank == size - 1 ? MB_NO_SPACE : MB_OK, "one fails") == MB_NO_SPACE);
    if (size > 1)
        CHECK(mb_comm_agree(c, rank == 0 ? MB_INPUT : rank == 1 ? MB_BUG : MB_OK, "two fail") == MB_BUG);
    if (size > 1) /* who was told of a failure does not hide its cause */
        CHECK(mb_comm_agree(c, rank == 1 ? MB_INPUT : MB_PEER, "one fails, the others were told") == MB_INPUT);
    CHECK(mb_comm_agree(c, MB_PEER, "all were told") == MB_PEER);
    CHECK(mb_comm_barrier(c, "test") == MB_OK);
}

/* Block of `from` for `to`: (from * 7 + to * 3) % 5 * 1000 bytes (some empty), or larger than one piece. */
static uint64_t block(int from, int to, bool large)
{
    return large && from == 0 && to == size - 1 ? (65u << 20) + 1 : (uint64_t)((from * 7 + to * 3) % 5) * 1000;
}

static void test_alltoallv(bool large)
{
    uint64_t *off = calloc((size_t)size + 1, sizeof *off), *roff = calloc((size_t)size + 1, sizeof *roff);
    uint8_t *got = NULL;

    for (int r = 0; r < size; r++)
        off[r + 1] = off[r] + block(rank, r, large);
    uint8_t *send = malloc(off[size] + 1);
    for (int r = 0; r < size; r++)
        for (uint64_t i = off[r]; i < off[r + 1]; i++)
            send[i] = (uint8_t)((i - off[r]) * 5 + (uint64_t)(rank * 16 + r));
    CHECK(mb_comm_alltoallv(c, send, off, &got, roff, "blocks") == MB_OK);
    for (int r = 0; r < size; r++) {
        CHECK(roff[r + 1] - roff[r] == block(r, rank, large));
        for (uint64_t i = roff[r]; i < roff[r + 1]; i++)
            CHECK(got[i] == (uint8_t)((i - roff[r]) * 5 + (uint64_t)(r * 16 + rank)));
    }
    mb_free(got);
    free(send);
    free(off);
    free(roff);
}

static void test_same_node(void)
{
    int32_t *node = malloc((size_t)size * sizeof *node);

    CHECK(mb_comm_same_node(c, node) == MB_OK);
    for (int r = 0; r < size; r++)
        CHECK(node[r] == 0);
    test_no_shm_left(c);
    free(node);
}

/* Every rank sends `count` numbered messages to every rank while collectives run; all arrive, in order. */
static void test_ctl(void)
{
    enum { COUNT = 40 };
    struct mb_bytes b = {0};
    uint32_t *next = calloc((size_t)size, sizeof *next), left = (uint32_t)size * COUNT;
    uint8_t *big = calloc(1, 1u << 20);
    int64_t bytes = 0, messages = 0, bytes0, messages0;
    int from = -1;
    bool got = true;

    mb_ctl_counts(c, &bytes0, &messages0);
    CHECK(mb_ctl_poll(c, MB_CTL_COMMAND, &from, &b, &got) == MB_OK && !got);
    for (uint32_t i = 0; i < COUNT; i++) {
        for (int r = 0; r < size; r++) {
            uint32_t n = i % 10 == 9 ? 300000 + i : 8; /* some beyond MPI's eager size */
            memcpy(big, &i, 4);
            big[n - 1] = (uint8_t)(i + 1);
            CHECK(mb_ctl_send(c, r, MB_CTL_USER, big, n) == MB_OK);
        }
        if (i % 8 == 0)
            CHECK(mb_comm_barrier(c, "under load") == MB_OK);
    }
    double t = mb_now();
    while (left > 0 && mb_now() - t < 40) {
        CHECK(mb_ctl_poll(c, MB_CTL_USER, &from, &b, &got) == MB_OK);
        if (!got)
            continue;
        uint32_t i;
        memcpy(&i, b.data, 4);
        CHECK(i == next[from]++);
        CHECK(b.len == (i % 10 == 9 ? 300000 + i : 8) && b.data[b.len - 1] == (uint8_t)(i + 1));
        left--;
    }
    CHECK(left == 0);
    CHECK(mb_ctl_flush(c) == MB_OK);
    mb_ctl_counts(c, &bytes, &messages);
    CHECK(messages - messages0 == (int64_t)size * COUNT);
    CHECK(bytes - bytes0 == (int64_t)size * (36 * 8 + 4 * 300000 + 9 + 19 + 29 + 39));
    CHECK(mb_ctl_send(c, size, MB_CTL_USER, big, 1) == MB_BUG);
    CHECK(mb_ctl_send(c, 0, MB_CTL_USER, big, (1u << 20) + 1) == MB_BUG);
    free(big);
    free(next);
    mb_bytes_fini(&b);
}

/* Pieces and messages of a group that are longer than a message may be: here 1,000 bytes. */
enum { PIECE = 1000, LONGEST = 5500 };
static uint64_t length(int from, int to)
{
    static const uint64_t n[] = {0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, LONGEST};

    return n[(from * 3 + to * 5) % 7];
}

static void test_pieces(struct mb_comm *cut)
{
    struct mb_where at = {"pieces", 1, -1};
    struct mb_piece *send = calloc((size_t)size, sizeof *send), *recv = calloc((size_t)size, sizeof *recv);
    uint8_t *out = malloc((size_t)size * LONGEST), *in = malloc((size_t)size * LONGEST);
    struct mb_bytes got = {0};

    CHECK(send != NULL && recv != NULL && out != NULL && in != NULL);
    for (int r = 0; r < size; r++) {
        send[r] = (struct mb_piece){out + r * LONGEST, length(rank, r)};
        recv[r] = (struct mb_piece){in + r * LONGEST, length(r, rank)};
        for (int i = 0; i < LONGEST; i++)
            out[r * LONGEST + i] = (uint8_t)(rank * 31 + r * 7 + i * 13 / 5);
    }
    CHECK(mb_comm_swap(cut, send, recv, &at) == MB_OK);
    for (int r = 0; r < size; r++)
        CHECK(mb_comm_post(cut, r, 2, send[r].p, send[r].n) == MB_OK);
    for (int r = 0; r < size; r++) {
        CHECK(mb_comm_take(cut, r, 2, &got, &at) == MB_OK);
        CHECK(got.len == recv[r].n);
        for (uint64_t i = 0; i < recv[r].n; i++) {
            uint8_t want = (uint8_t)(r * 31 + rank * 7 + (int)i * 13 / 5);
            CHECK(got.data[i] == want && (r == rank || in[(uint64_t)r * LONGEST + i] == want));
        }
    }
    mb_bytes_fini(&got);
    free(send);
    free(recv);
    free(out);
    free(in);
}

/* Parts of world are known by name in one place until they are destroyed. */
static void test_parts(void)
{
    struct mb_comm *halves = NULL, *first = NULL, *inner = NULL;
    int64_t sum = rank;

    CHECK(mb_comm_part(c, 0) == NULL && strcmp(mb_comm_name(c), "world") == 0);
    CHECK(mb_comm_split(c, "a half", rank % 2, -rank, &halves) == MB_OK && halves != NULL);
    CHECK(mb_comm_split(c, "the first", rank == 0 ? 0 : -1, 0, &first) == MB_OK && (first != NULL) == (rank == 0));
    CHECK(mb_comm_split(halves, "all of a half", 3, rank, &inner) == MB_OK);
    CHECK(mb_comm_part(c, 0) == inner && mb_comm_part(c, 1) == (rank == 0 ? first : halves));
    CHECK(strcmp(mb_comm_name(inner), "all of a half") == 0 && mb_comm_part(c, rank == 0 ? 3 : 2) == NULL);
    for (int r = 0; r < mb_comm_size(halves); r++) { /* by keys: downwards, and upwards */
        CHECK(mb_comm_world_rank(halves, r) % 2 == rank % 2);
        CHECK(mb_comm_world_rank(halves, r) == mb_comm_world_rank(inner, mb_comm_size(halves) - 1 - r));
        CHECK(r == 0 || mb_comm_world_rank(halves, r) < mb_comm_world_rank(halves, r - 1));
    }
    CHECK(mb_comm_sum_i64(halves, &sum, 1, "ranks") == MB_OK);
    int64_t half = (size - rank % 2 + 1) / 2;
    CHECK(sum == half * (half - 1) + half * (rank % 2));
    mb_comm_destroy(first);
    CHECK(mb_comm_part(c, 1) == halves && mb_comm_part(c, 2) == NULL);
    mb_comm_destroy_parts(c);
    CHECK(mb_comm_part(c, 0) == NULL);
}

int main(int argc, char **argv)
{
    struct mb_mem mem = {0};
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    c = test_comm(50, &mem);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    CHECK(strstr(mb_comm_library(c), "Open MPI") != NULL);
    int n = 0;
    MPI_Comm_size((MPI_Comm)mb_comm_mpi(c), &n);
    CHECK(n == size);
    test_bcast();
    test_bcast_bytes();
    test_gather_reduce();
    test_parts();
    test_agree();
    test_alltoallv(false);
    test_alltoallv(true);
    test_same_node();
    test_ctl();
    struct mb_comm *cut = NULL;
    CHECK(mb_comm_create(&(struct mb_comm_options){.deadline = 50, .mem = &mem, .piece = PIECE}, &cut) == MB_OK);
    test_pieces(cut);
    mb_comm_destroy(cut);
    /* One message is never received: destroy still returns everywhere. */
    CHECK(mb_ctl_send(c, 0, MB_CTL_TICK, "lost", 4) == MB_OK);
    mb_comm_destroy(c);
    mb_comm_destroy(NULL);
    CHECK(mb_mem_total(&mem) == 0);
    MPI_Finalize();
    return 0;
}
