/* Every fuzz target on its seeds, and on seeds with random damage: bytes flipped, cut, doubled, swapped. The real search is
 * tests/long_fuzz.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/rng.h"
#include "fuzz/fuzz.h"

#define RUNS 200 /* of each seed */

static uint32_t draw(uint32_t run, uint32_t i)
{
    uint32_t ctr[4] = {run, i, 0, 0}, out[4];
    mb_philox4x32(ctr, 7, out);
    return out[0];
}

/* Damages data in place; returns the new length. */
static size_t damage(uint8_t *data, size_t n, size_t cap, uint32_t run)
{
    uint32_t edits = 1 + draw(run, 0) % 4;
    for (uint32_t e = 0; e < edits && n > 2; e++) {
        size_t at = draw(run, 4 * e + 1) % n, len = 1 + draw(run, 4 * e + 2) % 16;
        /* heads of files are where lengths are: half of the edits go there */
        if (draw(run, 4 * e + 3) & 1)
            at %= n < 256 ? n : 256;
        len = len < n - at ? len : n - at;
        switch (draw(run, 4 * e + 4) % 5) {
        case 0:
            data[at] ^= (uint8_t)(1u << (run % 8));
            break;
        case 1:
            data[at] = (uint8_t)draw(run, 99);
            break;
        case 2:
            n = at + 1;
            break;
        case 3:
            memmove(data + at, data + at + len, n - at - len);
            n -= len;
            break;
        default:
            if (n + len <= cap) {
                memmove(data + at + len, data + at, n - at);
                n += len;
            }
        }
    }
    return n;
}

/* The seed as it is, then damaged; half of the damaged ones are mended, so that they get behind lengths and hashes. */
static void run_seed(const struct fuzz_target *t, const char *path)
{
    struct mb_bytes seed = {0};
    assert_int_equal(mb_file_read(path, 1 << 20, MB_IO, &seed), MB_OK);
    uint8_t *copy = malloc(seed.len + 256);
    assert_non_null(copy);
    t->run(seed.data, seed.len);
    for (uint32_t run = 0; run < RUNS; run++) {
        memcpy(copy, seed.data, seed.len);
        size_t n = damage(copy, seed.len, seed.len + 256, run);
        if (t->mend != NULL && run % 2 == 0)
            t->mend(copy, n);
        t->run(copy, n);
    }
    free(copy);
    mb_bytes_fini(&seed);
}

static void all_targets(void **unused)
{
    char work[] = "/tmp/moebatch-fuzz.XXXXXX", path[2048], dir[1024];
    const char *top = getenv("top_srcdir");
    (void)unused;
    assert_non_null(mkdtemp(work));
    fuzz_start(top, work);
    for (int t = 0; t < fuzz_n_targets; t++) {
        snprintf(dir, sizeof dir, "%s/tests/fuzz/seeds/%s", top, fuzz_targets[t].name);
        int seeds = 0;
        DIR *d = opendir(dir);
        assert_non_null(d);
        for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            run_seed(&fuzz_targets[t], path);
            seeds++;
        }
        closedir(d);
        assert_true(seeds > 0);
    }
    fuzz_end();
    assert_int_equal(mb_remove_tree(work), MB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_targets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
