/* Fuzz targets: each takes bytes as a file or text of a kind and must neither crash nor leak, whatever they are. One source for
 * libFuzzer (long_fuzz.sh: one program, FUZZ_TARGET chooses) and for unit_fuzz (seeds and random damage in make check). Good
 * inputs of target NAME are the files of tests/fuzz/seeds/NAME, made by make_seeds.py. */
#ifndef FUZZ_H
#define FUZZ_H
#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t n);
    /* Makes damaged bytes fit the lengths and hashes that would otherwise refuse nearly all of them at the door. NULL: none. */
    void (*mend)(uint8_t *data, size_t n);
};
extern const struct fuzz_target fuzz_targets[];
extern const int fuzz_n_targets;
/* Once before the first run: top is the source directory, work the name of a directory for files (files.h). */
void fuzz_start(const char *top, const char *work);
void fuzz_end(void);
#endif
