/* Publishing: all or nothing, names nobody can guess, leftovers of the dead, locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/publish.h"
#include "tmpdir.h"

static char *dir, *path;

static int set_up(void **state)
{
    (void)state;
    dir = tmpdir_make();
    path = mb_path_join(dir, "f");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(path);
    tmpdir_remove(dir);
    return 0;
}

static int files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void assert_text(const char *want)
{
    struct mb_bytes b = {0};
    assert_int_equal(mb_file_read(path, 1000, MB_IO, &b), MB_OK);
    assert_int_equal(b.len, strlen(want));
    assert_memory_equal(b.data, want, b.len);
    mb_bytes_fini(&b);
}

static enum mb_status no(void *arg)
{
    *(int *)arg += 1;
    return MB_STOP;
}

static void test_whole(void **state)
{
    struct mb_publish *p = NULL, *q = NULL;
    int asked = 0;
    (void)state;
    assert_int_equal(mb_publish_bytes(path, "one", 3, 0), MB_OK);
    assert_int_equal(mb_publish_open(path, NULL, 0, &p), MB_OK);
    assert_int_equal(mb_publish_open(path, NULL, 0, &q), MB_OK); /* at once: each has its own */
    assert_string_not_equal(p->tmp, q->tmp);
    assert_int_equal(mb_publish_write(p, "two", 3), MB_OK);
    assert_text("one");
    assert_int_equal(mb_publish_commit(q, no, &asked), MB_STOP);
    assert_int_equal(asked, 1);
    assert_text("one");
    assert_int_equal(mb_publish_commit(p, NULL, NULL), MB_OK);
    assert_text("two");
    assert_int_equal(files(), 1);
}

static void test_new(void **state)
{
    struct mb_publish *p = NULL;
    (void)state;
    assert_int_equal(mb_publish_open(path, NULL, MB_PUBLISH_NEW, &p), MB_OK);
    assert_int_equal(mb_publish_bytes(path, "first", 5, 0), MB_OK);
    assert_int_equal(mb_publish_commit(p, NULL, NULL), MB_INPUT);
    assert_text("first");
    assert_int_equal(files(), 1);
}

/* Somebody puts another file, or a link, under the temporary name: it is not published. */
static void test_replaced(void **state)
{
    struct mb_publish *p = NULL;
    (void)state;
    assert_int_equal(mb_publish_open(path, NULL, 0, &p), MB_OK);
    assert_int_equal(unlink(p->tmp), 0);
    assert_int_equal(symlink("/etc/passwd", p->tmp), 0);
    assert_int_equal(mb_publish_commit(p, NULL, NULL), MB_IO);
    assert_false(mb_path_exists(path));
}

/* What a killed process leaves is removed by the next one; a living one's stays, and so does what only looks alike. */
static void test_leftovers(void **state)
{
    struct mb_publish *mine = NULL, *p = NULL;
    char *alike = mb_path_join(dir, "f.tmp-notes"), *other = mb_path_join(dir, "g.tmp-0123456789ab");
    (void)state;
    assert_int_equal(mb_publish_bytes(alike, "x", 1, 0), MB_OK);
    assert_int_equal(mb_publish_bytes(other, "x", 1, 0), MB_OK);
    assert_int_equal(mb_publish_open(path, NULL, 0, &mine), MB_OK);
    pid_t child = fork();
    if (child == 0) {
        (void)mb_publish_open(path, NULL, 0, &p);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(files(), 4);
    assert_int_equal(mb_publish_open(path, NULL, 0, &p), MB_OK);
    assert_int_equal(files(), 4); /* the dead one's went, ours came */
    assert_true(mb_path_exists(mine->tmp) && mb_path_exists(alike) && mb_path_exists(other));
    mb_publish_drop(p);
    assert_int_equal(mb_publish_commit(mine, NULL, NULL), MB_OK);
    free(alike);
    free(other);
}

/* A limit on file sizes is an error of the write, with room as its remedy, and nothing is published. */
static void test_too_large(void **state)
{
    struct rlimit old, small = {1000, 0};
    char big[5000] = {0};
    (void)state;
    assert_int_equal(mb_publish_bytes(path, "old", 3, 0), MB_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum mb_status st = mb_publish_bytes(path, big, sizeof big, 0), quiet = mb_publish_bytes(path, big, sizeof big, MB_PUBLISH_ADVISORY);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, MB_NO_SPACE);
    assert_int_equal(quiet, MB_NO_SPACE);
    assert_text("old");
    assert_int_equal(files(), 1);
}

static void test_probe(void **state)
{
    (void)state;
    assert_int_equal(mb_publish_probe(path), MB_OK);
    assert_int_equal(files(), 0);
    assert_int_equal(mb_publish_probe(dir), MB_INPUT);
    assert_int_equal(mb_publish_probe("/proc/f"), MB_CANT_CREATE);
    assert_int_equal(mb_publish_probe("/nonexistent/f"), MB_CANT_CREATE);
}

/* One holds it; who waits gets it when its file has been removed, and then holds a file that is there. */
static void test_lock(void **state)
{
    struct mb_lock a = {0}, b = {0};
    int status;
    (void)state;
    assert_int_equal(mb_lock_take(path, &a), MB_OK);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_RDWR);
        bool held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; /* we hold it back */
        _exit(held && mb_lock_take(path, &b) == MB_OK && mb_path_exists(path) ? 0 : 1);
    }
    usleep(200000);
    mb_lock_release(&a, true);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_symlink(void **state)
{
    (void)state;
    assert_int_equal(mb_publish_bytes(path, "old", 3, 0), MB_OK);
    assert_int_equal(mb_publish_symlink("/etc/hostname", path), MB_OK);
    struct stat sb;
    assert_int_equal(lstat(path, &sb), 0);
    assert_true(S_ISLNK(sb.st_mode));
    assert_int_equal(mb_publish_bytes(path, "new", 3, 0), MB_OK); /* the link goes, not what it names */
    assert_text("new");
    assert_int_equal(lstat(path, &sb), 0);
    assert_true(S_ISREG(sb.st_mode));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {T(test_whole), T(test_new),   T(test_replaced), T(test_leftovers),
                                       T(test_too_large), T(test_probe), T(test_lock), T(test_symlink)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
