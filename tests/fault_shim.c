/* LD_PRELOAD: on rank FAIL_RANK, operation number FAIL_AT of the kind FAIL_KIND fails, once, or with FAIL_ON from there on.
 *   alloc   malloc and its like, called from the program itself (not from its libraries)    NULL
 *   read    open for reading, fopen, read, pread of a file whose path contains one of FAIL_PATH (words with ':' between)  EIO
 *   write   write, pwrite of such a file                                                   ENOSPC
 *   thread  pthread_create of a function of the program                                    EAGAIN
 * FAIL_AT 0: all kinds are counted, nothing fails; FAIL_RANK may be "all".
 * With FAIL_SIGNAL the signal of this number is raised instead of a failure (with FAIL_ON, what follows fails).
 * With FAIL_AFTER nothing fails or is counted before this rank has opened a file whose path contains it.
 * FAIL_LOG.RANK gets a line for each failure (its number, what failed, the caller's offset in the program or the path), and at
 * the end "count KIND N". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

enum kind { ALLOC, READ, WRITE, THREAD, KINDS };
static const char *const names[KINDS] = {"alloc", "read", "write", "thread"};
static const int errors[KINDS] = {ENOMEM, EIO, ENOSPC, EAGAIN};

static struct {
    bool on, sticky;
    int signal;
    long at;
    const char *kind, *paths, *after;
    atomic_bool before; /* FAIL_AFTER has not been opened */
    char log[PATH_MAX];
    uintptr_t base, begin, end; /* the program in memory */
    atomic_long seen[KINDS];
} shim;

static void note(const char *line, int len)
{
    int fd = shim.log[0] == 0 ? -1 : (int)syscall(SYS_openat, AT_FDCWD, shim.log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0)
        return;
    if (syscall(SYS_write, fd, line, (size_t)len) < 0)
        abort();
    syscall(SYS_close, fd);
}

static int program(struct dl_phdr_info *i, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    shim.base = i->dlpi_addr;
    shim.begin = UINTPTR_MAX;
    for (int k = 0; k < i->dlpi_phnum; k++) {
        if (i->dlpi_phdr[k].p_type != PT_LOAD)
            continue;
        uintptr_t at = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr;
        shim.begin = at < shim.begin ? at : shim.begin;
        shim.end = at + i->dlpi_phdr[k].p_memsz;
    }
    return 1; /* the program comes first */
}

static bool inside(const void *p)
{
    return (uintptr_t)p >= shim.begin && (uintptr_t)p < shim.end;
}

__attribute__((constructor)) static void start(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *want = getenv("FAIL_RANK"), *at = getenv("FAIL_AT"), *log = getenv("FAIL_LOG");
    rank = rank != NULL ? rank : getenv("PMI_RANK");
    rank = rank != NULL ? rank : "0";
    shim.kind = getenv("FAIL_KIND");
    shim.paths = getenv("FAIL_PATH");
    shim.after = getenv("FAIL_AFTER");
    shim.before = shim.after != NULL;
    shim.sticky = getenv("FAIL_ON") != NULL;
    shim.signal = getenv("FAIL_SIGNAL") != NULL ? atoi(getenv("FAIL_SIGNAL")) : 0;
    if (want == NULL || at == NULL || (shim.kind == NULL && atol(at) > 0) || (strcmp(want, rank) != 0 && strcmp(want, "all") != 0))
        return;
    shim.at = atol(at);
    if (log != NULL)
        snprintf(shim.log, sizeof shim.log, "%s.%s", log, rank);
    dl_iterate_phdr(program, NULL);
    shim.on = true;
}

__attribute__((destructor)) static void end(void)
{
    char line[64];
    for (int k = 0; k < KINDS && shim.on; k++)
        note(line, snprintf(line, sizeof line, "count %s %ld\n", names[k], atomic_load(&shim.seen[k])));
}

/* Whether this operation fails; errno is then set. */
static bool fails(enum kind kind, const char *what, const void *from, const char *path)
{
    if (shim.before)
        return false;
    long n = atomic_fetch_add(&shim.seen[kind], 1) + 1;
    if (shim.at == 0 || strcmp(names[kind], shim.kind) != 0)
        return false;
    bool bad = (n == shim.at && shim.signal == 0) || (n > shim.at && shim.sticky);
    char line[PATH_MAX + 128];
    if (shim.signal != 0 && n == shim.at)
        raise(shim.signal);
    if (!bad)
        return false;
    int len = path != NULL ? snprintf(line, sizeof line, "%ld %s %s\n", n, what, path)
                           : snprintf(line, sizeof line, "%ld %s 0x%lx\n", n, what, (unsigned long)((uintptr_t)from - shim.base));
    note(line, len);
    errno = errors[kind];
    return true;
}

static bool fails_path(enum kind kind, const char *what, const char *path)
{
    char words[PATH_MAX], *save = NULL;
    if (!shim.on || shim.paths == NULL || path == NULL)
        return false;
    snprintf(words, sizeof words, "%s", shim.paths);
    for (char *w = strtok_r(words, ":", &save); w != NULL; w = strtok_r(NULL, ":", &save))
        if (strstr(path, w) != NULL)
            return fails(kind, what, NULL, path);
    return false;
}

static bool fails_fd(enum kind kind, const char *what, int fd)
{
    char link[64], path[PATH_MAX];
    if (!shim.on || shim.paths == NULL)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0 && fails_path(kind, what, path);
}

/* ---------------------------------------------------------------- allocations */
#define FAILS_HERE(what) (shim.on && inside(__builtin_return_address(0)) && fails(ALLOC, what, __builtin_return_address(0), NULL))
void *malloc(size_t n)
{
    return FAILS_HERE("malloc") ? NULL : __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    return FAILS_HERE("calloc") ? NULL : __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    return FAILS_HERE("realloc") ? NULL : __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n)
{
    return FAILS_HERE("aligned_alloc") ? NULL : __libc_memalign(align, n);
}
int posix_memalign(void **out, size_t align, size_t n)
{
    if (FAILS_HERE("posix_memalign"))
        return ENOMEM;
    *out = __libc_memalign(align, n);
    return *out != NULL ? 0 : ENOMEM;
}
static char *copy(const char *s, size_t n)
{
    char *p = __libc_malloc(n + 1);
    if (p == NULL)
        return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}
#undef strdup
#undef strndup
char *strdup(const char *s)
{
    return FAILS_HERE("strdup") ? NULL : copy(s, strlen(s));
}
char *__strdup(const char *s)
{
    return FAILS_HERE("strdup") ? NULL : copy(s, strlen(s));
}
char *strndup(const char *s, size_t n)
{
    return FAILS_HERE("strndup") ? NULL : copy(s, strnlen(s, n));
}

int vasprintf(char **out, const char *format, va_list args)
{
    if (FAILS_HERE("vasprintf"))
        return -1;
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    *out = n < 0 ? NULL : __libc_malloc((size_t)n + 1);
    return *out == NULL ? -1 : vsnprintf(*out, (size_t)n + 1, format, args);
}
int asprintf(char **out, const char *format, ...)
{
    if (FAILS_HERE("asprintf"))
        return -1;
    va_list args;
    va_start(args, format);
    int n = vasprintf(out, format, args); /* called from the shim, so it does not fail again */
    va_end(args);
    return n;
}

/* ---------------------------------------------------------------- files */
#define REAL(type, f) ((type)dlsym(RTLD_NEXT, #f))
typedef ssize_t (*read_f)(int, void *, size_t);
typedef ssize_t (*pread_f)(int, void *, size_t, off_t);
typedef ssize_t (*write_f)(int, const void *, size_t);
typedef ssize_t (*pwrite_f)(int, const void *, size_t, off_t);
typedef int (*open_f)(const char *, int, ...);
typedef FILE *(*fopen_f)(const char *, const char *);
typedef int (*thread_f)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list ap;                                                                                                    \
        va_start(ap, flags);                                                                                           \
        mode_t mode = va_arg(ap, mode_t);                                                                              \
        va_end(ap);                                                                                                    \
        if (shim.on && shim.before && strstr(path, shim.after) != NULL)                                                \
            shim.before = false;                                                                                       \
        if ((flags & O_ACCMODE) == O_RDONLY && fails_path(READ, "open", path))                                       \
            return -1;                                                                                                 \
        return REAL(open_f, name)(path, flags, mode);                                                                  \
    }
OPEN(open)
OPEN(open64)
int __open64_2(const char *path, int flags)
{
    return (flags & O_ACCMODE) == O_RDONLY && fails_path(READ, "open", path) ? -1 : REAL(open_f, open64)(path, flags);
}
FILE *fopen(const char *path, const char *mode)
{
    return mode[0] == 'r' && fails_path(READ, "fopen", path) ? NULL : REAL(fopen_f, fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode)
{
    return mode[0] == 'r' && fails_path(READ, "fopen", path) ? NULL : REAL(fopen_f, fopen64)(path, mode);
}
ssize_t read(int fd, void *p, size_t n)
{
    return fails_fd(READ, "read", fd) ? -1 : REAL(read_f, read)(fd, p, n);
}
ssize_t __read_chk(int fd, void *p, size_t n, size_t room)
{
    (void)room;
    return fails_fd(READ, "read", fd) ? -1 : REAL(read_f, read)(fd, p, n);
}
ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return fails_fd(READ, "pread", fd) ? -1 : REAL(pread_f, pread)(fd, p, n, at);
}
ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    return fails_fd(READ, "pread", fd) ? -1 : REAL(pread_f, pread64)(fd, p, n, at);
}
ssize_t __pread64_chk(int fd, void *p, size_t n, off_t at, size_t room)
{
    (void)room;
    return fails_fd(READ, "pread", fd) ? -1 : REAL(pread_f, pread64)(fd, p, n, at);
}
ssize_t write(int fd, const void *p, size_t n)
{
    return fails_fd(WRITE, "write", fd) ? -1 : REAL(write_f, write)(fd, p, n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return fails_fd(WRITE, "pwrite", fd) ? -1 : REAL(pwrite_f, pwrite)(fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at)
{
    return fails_fd(WRITE, "pwrite", fd) ? -1 : REAL(pwrite_f, pwrite64)(fd, p, n, at);
}
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    return shim.on && inside((void *)(uintptr_t)f) && fails(THREAD, "pthread_create", (void *)(uintptr_t)f, NULL)
               ? EAGAIN
               : REAL(thread_f, pthread_create)(t, a, f, arg);
}
