#include "io/lease.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"

#define MIN_CAP 16 /* lines of a block, where the input is long, are at least this; and so many more may go with it */

struct mb_lease {
    struct mb_lease_options o;
    uint64_t next, end;       /* places of lines not looked at yet: [next, end) */
    int fd;                   /* of the input, where lines are compared; -1: not open */
    uint64_t *order;          /* [lines] the line at each place, of MB_LINES_NEW; NULL: as they stand */
    uint64_t left, total;     /* lines to do: not handed out, all */
    int32_t waiting_first;    /* leasers without a first block */
    int32_t untold;           /* leasers that do not know yet that nothing is left */
    uint8_t *served, *asked, *told; /* [ranks] */
    double started, ended;    /* the first question, the last line: 0 before */
};

/* A line that needs no work: empty, or done in an earlier run. */
static bool is_idle(const struct mb_lease *l, uint64_t line, struct mb_line *info, const struct mb_resume_entry **entries,
                    int32_t *n_entries)
{
    bool done = false;

    *entries = NULL;
    *n_entries = 0;
    mb_index_line(l->o.index, line, info);
    if (info->n == 0)
        return true;
    if (l->o.resume != NULL)
        mb_resume_line(l->o.resume, line, &done, entries, n_entries);
    return done;
}

static uint64_t line_at(const struct mb_lease *l, uint64_t place)
{
    return l->order != NULL ? l->order[place - mb_index_info(l->o.index)->first] & ~MB_LINES_NEW : place;
}

/* Whether the line there goes with that before it, though a block of `size` has as many already: then more are computed
 * once. A short input is divided evenly all the same. */
static bool goes_along(struct mb_lease *l, uint64_t place, uint64_t before, uint64_t have, uint64_t size)
{
    const struct mb_input_info *info = mb_index_info(l->o.index);

    if (l->order != NULL)
        return have < size + MIN_CAP && (l->order[place - info->first] & MB_LINES_NEW) == 0;
    if (have >= size + 3 + size / 8 || l->total / (uint64_t)l->o.leasers < (uint64_t)l->o.capacity)
        return false;
    if (l->fd < 0)
        l->fd = open(info->path, O_RDONLY | O_CLOEXEC);
    return mb_line_order_same(l->o.index, l->fd, before, place);
}

static uint64_t count_todo(const struct mb_lease *l)
{
    const struct mb_resume_entry *entries;
    struct mb_line info;
    uint64_t n = 0;
    int32_t k;

    for (uint64_t i = l->next; i < l->end; i++)
        n += !is_idle(l, line_at(l, i), &info, &entries, &k);
    return n;
}

enum mb_status mb_lease_create(const struct mb_lease_options *o, struct mb_lease **out)
{
    const struct mb_input_info *info = mb_index_info(o->index);
    struct mb_lease *l = mb_zalloc(o->mem, MB_MEM_INDEX, 1, sizeof *l);

    if (l == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to hand out the input");
    l->o = *o;
    l->fd = -1;
    if (l->o.leasers < 1)
        l->o.leasers = 1;
    if (l->o.capacity < 1)
        l->o.capacity = 1;
    if (l->o.patience <= 0)
        l->o.patience = 10;
    l->next = info->first;
    l->end = info->first + info->lines;
    l->waiting_first = l->untold = l->o.leasers;
    l->served = mb_zalloc(o->mem, MB_MEM_INDEX, (size_t)o->ranks, 1);
    l->asked = mb_zalloc(o->mem, MB_MEM_INDEX, (size_t)o->ranks, 1);
    l->told = mb_zalloc(o->mem, MB_MEM_INDEX, (size_t)o->ranks, 1);
    enum mb_status st = MB_OK;
    if (l->served == NULL || l->asked == NULL || l->told == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory to hand out the input");
    if (st == MB_OK)
        st = mb_line_order_make(o->index, o->order, o->mem, &l->order);
    if (st != MB_OK) {
        mb_lease_destroy(l);
        return st;
    }
    l->left = l->total = count_todo(l);
    *out = l;
    return MB_OK;
}

void mb_lease_destroy(struct mb_lease *l)
{
    if (l == NULL)
        return;
    mb_free(l->served);
    mb_free(l->asked);
    mb_free(l->told);
    mb_free(l->order);
    if (l->fd >= 0)
        close(l->fd);
    mb_free(l);
}

uint64_t mb_lease_left(const struct mb_lease *l)
{
    return l->left;
}

uint64_t mb_lease_total(const struct mb_lease *l)
{
    return l->total;
}

uint64_t mb_lease_close(struct mb_lease *l)
{
    uint64_t left = l->left;

    l->left = 0;
    l->next = l->end;
    return left;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Lines of a block for this rank; 0: not now. Something must be left. */
static uint64_t block_size(const struct mb_lease *l, int rank, double now)
{
    uint64_t ranks = (uint64_t)l->o.leasers, capacity = (uint64_t)l->o.capacity;
    uint64_t share = min_u64(capacity, l->total / ranks), first = share > 0 ? share : 1;
    uint64_t waiting = now - l->started < l->o.patience ? (uint64_t)l->waiting_first : 0;

    if (!l->served[rank]) {
        uint64_t kept = waiting > 1 ? (waiting - 1) * first : 0, spare = l->left > kept ? l->left - kept : 1;
        /* who comes first gets one of the lines that do not divide evenly, if all can be worked on at once */
        bool uneven = share > 0 && share < capacity && share * ranks < l->total;
        return min_u64(first + uneven, spare);
    }
    if (waiting > 0 && share < capacity)
        return 0; /* a short input: first blocks are all there is */
    uint64_t kept = waiting * first, spare = l->left > kept ? l->left - kept : 0;
    uint64_t size = l->left / (2 * ranks), cap = capacity > MIN_CAP ? capacity : MIN_CAP;
    return min_u64(min_u64(size > 0 ? size : 1, cap), spare);
}

/* Appends lines (and what is known of them) until there are `size`, or the message is full; a few more where they go together. */
static enum mb_status fill(struct mb_lease *l, uint64_t size, struct mb_lease_head *head, struct mb_bytes *lines,
                           struct mb_bytes *entries)
{
    const struct mb_resume_entry *known;
    struct mb_line info;
    uint64_t last = 0; /* line of the block */
    int32_t k;

    for (; l->next < l->end; l->next++) {
        uint64_t at = line_at(l, l->next);
        if (head->n_lines >= size && !goes_along(l, l->next, last, head->n_lines, size))
            break;
        if (is_idle(l, at, &info, &known, &k))
            continue;
        size_t more = sizeof(struct mb_lease_line) + (size_t)k * sizeof *known;
        if (head->n_lines > 0 && lines->len + entries->len + more > MB_LEASE_BYTES)
            break;
        struct mb_lease_line line = {at, info.offset, info.len, info.hash, (uint16_t)info.flags,
                                     (uint16_t)info.n, 0};
        MB_TRY(mb_bytes_put(lines, &line, sizeof line));
        MB_TRY(mb_bytes_put(entries, known, (size_t)k * sizeof *known));
        head->n_lines++;
        last = at;
        head->n_entries += (uint32_t)k;
    }
    l->left -= head->n_lines;
    head->end = l->left == 0;
    return MB_OK;
}

static void note(struct mb_lease *l, int rank, bool end, double now)
{
    if (!l->served[rank]) {
        l->served[rank] = 1;
        l->waiting_first -= l->waiting_first > 0;
    }
    if (end && !l->told[rank]) {
        l->told[rank] = 1;
        l->untold -= l->untold > 0;
    }
    if (end && l->ended == 0)
        l->ended = now;
}

bool mb_lease_over(const struct mb_lease *l, double now)
{
    return l->left == 0 && (l->untold == 0 || (l->ended > 0 && now - l->ended > l->o.patience));
}

enum mb_status mb_lease_block(struct mb_lease *l, int rank, double now, struct mb_bytes *msg, bool *got)
{
    struct mb_lease_head head = {0};
    struct mb_bytes entries = {0};
    if (l->started == 0)
        l->started = now;
    uint64_t size = l->left > 0 ? block_size(l, rank, now) : 0;

    *got = size > 0 || l->left == 0;
    if (!*got)
        return MB_OK;
    enum mb_status st = mb_bytes_put(msg, &head, sizeof head);
    if (st == MB_OK)
        st = fill(l, size, &head, msg, &entries);
    if (st == MB_OK)
        st = mb_bytes_put(msg, entries.data, entries.len);
    mb_bytes_fini(&entries);
    if (st != MB_OK)
        return st;
    memcpy(msg->data, &head, sizeof head);
    note(l, rank, head.end != 0, now);
    return MB_OK;
}

/* Everyone who asked and can be answered. */
static enum mb_status answer(struct mb_lease *l)
{
    struct mb_bytes msg = {0};
    enum mb_status st = MB_OK;
    double now = mb_now();

    for (int32_t r = 0; r < l->o.ranks && st == MB_OK; r++) {
        bool got = false;
        if (!l->asked[r])
            continue;
        msg.len = 0;
        st = mb_lease_block(l, r, now, &msg, &got);
        if (st != MB_OK || !got)
            continue;
        l->asked[r] = 0;
        st = mb_ctl_send(l->o.comm, r, MB_CTL_LEASE, msg.data, (uint32_t)msg.len);
    }
    mb_bytes_fini(&msg);
    return st;
}

enum mb_status mb_lease_serve(struct mb_lease *l)
{
    struct mb_bytes in = {0};
    enum mb_status st = MB_OK;
    bool got = true;
    int from;

    while (st == MB_OK && got) {
        st = mb_ctl_poll(l->o.comm, MB_CTL_LEASE_ASK, &from, &in, &got);
        if (st == MB_OK && got && (from < 0 || from >= l->o.ranks))
            st = mb_error(MB_BUG, "rank %d asks for lines, of %d ranks", from, l->o.ranks);
        else if (st == MB_OK && got)
            l->asked[from] = 1;
    }
    mb_bytes_fini(&in);
    return st == MB_OK ? answer(l) : st;
}
