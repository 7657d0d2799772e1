#include "comm/shm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/impl.h"

#define DIRECTORY "/dev/shm" /* where shm_open has its names on Linux */
#define PREFIX "moebatch-"
#define STALE_SECONDS 3600

static void draw_nonce(uint64_t nonce[2])
{
    if (getrandom(nonce, 16, 0) != 16) { /* only on kernels without it */
        nonce[0] = (uint64_t)getpid() << 32 ^ (uint64_t)(1e9 * mb_utc());
        nonce[1] = (uint64_t)(1e9 * mb_now());
    }
}

static void remove_name(const char *file)
{
    char name[NAME_MAX + 2];

    snprintf(name, sizeof name, "/%s", file);
    shm_unlink(name);
}

/* A name lives from its making until all ranks of the node have mapped it. One that a kill in between has
 * left behind holds memory for ever: who makes the next one removes this user's that are an hour old. */
static void sweep(void)
{
    DIR *d = opendir(DIRECTORY);
    time_t old = time(NULL) - STALE_SECONDS;

    if (d == NULL)
        return;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct stat st;
        if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1) == 0 &&
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_uid == geteuid() && st.st_mtime < old)
            remove_name(e->d_name);
    }
    closedir(d);
}

/* Opens a new name; -1 with errno. */
static int create_name(struct mb_shm_offer *offer)
{
    int fd, tries = 0;

    sweep();
    do {
        draw_nonce(offer->nonce);
        snprintf(offer->name, sizeof offer->name, "/" PREFIX "%016llx", (unsigned long long)offer->nonce[0]);
        fd = shm_open(offer->name, O_CREAT | O_EXCL | O_RDWR, 0600);
    } while (fd < 0 && errno == EEXIST && ++tries < 8);
    return fd;
}

static enum mb_status map_fd(int fd, uint64_t bytes, struct mb_shm *out)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return MB_IO;
    out->base = p;
    out->bytes = bytes;
    return MB_OK;
}

static int allocate(int fd, uint64_t bytes)
{
    int rc;

    do
        rc = posix_fallocate(fd, 0, (off_t)bytes);
    while (rc == EINTR);
    return rc;
}

enum mb_status mb_shm_make(uint64_t bytes, struct mb_shm_offer *offer, struct mb_shm *out)
{
    enum mb_status st = MB_IO;

    memset(offer, 0, sizeof *offer);
    int fd = create_name(offer);
    if (fd < 0) {
        offer->reason = (uint32_t)errno;
        offer->name[0] = '\0';
        return errno == ENOSPC ? MB_NO_SPACE : MB_IO;
    }
    int rc = allocate(fd, bytes);
    if (rc == 0) {
        st = map_fd(fd, bytes, out);
        rc = errno;
    } else if (rc == ENOSPC) {
        st = MB_NO_SPACE;
    }
    close(fd);
    if (st != MB_OK) {
        offer->reason = (uint32_t)rc;
        shm_unlink(offer->name);
        offer->name[0] = '\0';
        return st;
    }
    memcpy(out->base, offer->nonce, sizeof offer->nonce);
    return MB_OK;
}

enum mb_status mb_shm_map(const struct mb_shm_offer *offer, uint64_t bytes, struct mb_shm *out)
{
    struct mb_shm s = {NULL, 0};

    if (offer->name[0] == '\0')
        return MB_IO;
    int fd = shm_open(offer->name, O_RDWR, 0);
    if (fd < 0)
        return MB_IO;
    off_t size = lseek(fd, 0, SEEK_END);
    enum mb_status st = size < 0 || (uint64_t)size < bytes ? MB_IO : map_fd(fd, bytes, &s);
    close(fd);
    if (st != MB_OK)
        return st;
    if (memcmp(s.base, offer->nonce, sizeof offer->nonce) != 0) {
        mb_shm_unmap(&s);
        return MB_IO;
    }
    *out = s;
    return MB_OK;
}

void mb_shm_unlink(const struct mb_shm_offer *offer)
{
    if (offer->name[0] != '\0')
        shm_unlink(offer->name);
}

void mb_shm_unmap(struct mb_shm *s)
{
    if (s->base != NULL)
        munmap(s->base, s->bytes);
    s->base = NULL;
    s->bytes = 0;
}

/* The first failure in rank order. */
static void say_why(const struct mb_comm *c, const struct mb_shm_offer *offers, const int32_t *failed,
                    char why[MB_SHM_WHY])
{
    for (int r = 0; r < c->size; r++)
        if (failed[r] != MB_OK) {
            snprintf(why, MB_SHM_WHY, "rank %d: %s", r,
                     offers[r].reason != 0 ? strerror((int)offers[r].reason)
                                           : "the node's segment cannot be mapped");
            return;
        }
}

enum mb_status mb_shm_share(struct mb_comm *c, int leader, uint64_t bytes, struct mb_shm *out,
                            char why[MB_SHM_WHY])
{
    struct mb_shm_offer mine = {.name = ""}, *offers = NULL;
    struct mb_shm s = {NULL, 0};
    int32_t *states = NULL, ok = MB_OK;
    enum mb_status st = MB_OK;

    offers = mb_alloc(c->mem, MB_MEM_OTHER, (size_t)c->size, sizeof *offers);
    states = mb_alloc(c->mem, MB_MEM_OTHER, (size_t)c->size, sizeof *states);
    if (offers == NULL || states == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for the table of shared segments");
    st = mb_comm_agree(c, st, "shared segments");
    if (st != MB_OK)
        goto out;
    if (bytes > 0 && leader == c->rank)
        ok = (int32_t)mb_shm_make(bytes, &mine, &s);
    st = mb_comm_allgather(c, &mine, sizeof mine, offers, "shared segments");
    if (bytes > 0 && leader != c->rank)
        ok = (int32_t)mb_shm_map(&offers[leader], bytes, &s);
    st = mb_comm_allgather(c, &ok, sizeof ok, states, "shared segments");
    mb_shm_unlink(&mine);
    for (int r = 0; r < c->size; r++)
        if (states[r] > (int32_t)st)
            st = (enum mb_status)states[r];
    if (st == MB_OK) {
        *out = s;
    } else {
        mb_shm_unmap(&s);
        say_why(c, offers, states, why);
    }
out:
    mb_free(offers);
    mb_free(states);
    return st;
}
