/* The files of the fuzz targets: real ones in unit_fuzz (files_disk.c), in memory for libFuzzer (files_memory.c, where system
 * calls would take a quarter of the time). All below the work directory. Failures abort. */
#ifndef FUZZ_FILES_H
#define FUZZ_FILES_H
#include <stddef.h>
#include <stdint.h>

void fuzz_dir(const char *path); /* its parent is there; may exist */
/* Creates or replaces: n bytes, then a hole up to size bytes. */
void fuzz_file(const char *path, const void *data, size_t n, uint64_t size);
void fuzz_link(const char *from, const char *to); /* one file under two names: the second follows the first */
void fuzz_files_end(void);
#endif
