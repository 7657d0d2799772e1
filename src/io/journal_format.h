/* What writer and reader of journals share; for files of io/journal*.c and io/resume.c only. */
#ifndef MB_IO_JOURNAL_FORMAT_H
#define MB_IO_JOURNAL_FORMAT_H
#include "base/mem.h"
#include "io/journal.h"

#define MB_JOURNAL_VERSION 2
#define MB_FRAME_MARKER 0x4c4a424du /* "MBJL" */
#define MB_FRAME_HEAD 16
#define MB_FRAME_MAX 0xffffff00u

/* Appends one frame whose payload is head followed by body. */
enum mb_status mb_frame_put(struct mb_bytes *out, const void *head, size_t n_head, const void *body, size_t n);

/* XXH3 of n bytes of an open file; a short file is st_bad. */
enum mb_status mb_bulk_hash(int fd, const char *path, uint64_t offset, uint64_t n, enum mb_status st_bad, uint64_t *out);
#endif
