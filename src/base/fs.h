/* Files: whole reads and writes with errors that name the path. Paths are UTF-8 byte strings. Local. */
#ifndef MB_BASE_FS_H
#define MB_BASE_FS_H
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "base/mem.h"
#include "base/status.h"

/* dir + "/" + name, malloc'd; NULL without memory. */
char *mb_path_join(const char *dir, const char *name);
bool mb_path_exists(const char *path);
/* One file under two names, by device and inode; or, where neither exists, one name to be in one directory. */
bool mb_same_file(const char *a, const char *b);

/* Whole file into *out (appended). A file beyond max bytes is refused with st_bad, as is one that can't be read. */
enum mb_status mb_file_read(const char *path, uint64_t max, enum mb_status st_bad, struct mb_bytes *out);

/* Exactly n bytes at off, retrying short reads and EINTR; a short file is st_bad. Logs with the path. */
enum mb_status mb_pread_all(int fd, void *dst, size_t n, uint64_t off, const char *path, enum mb_status st_bad);
/* All n bytes; errors as of mb_file_error. */
enum mb_status mb_write_all(int fd, const void *src, size_t n, const char *path);
enum mb_status mb_pwrite_all(int fd, const void *src, size_t n, uint64_t off, const char *path);

/* mkdir -p; what it makes is on disk when it returns. */
enum mb_status mb_mkdirs(const char *path);
/* A file or link that does not exist is no error. */
enum mb_status mb_remove_file(const char *path);
/* A directory, if nothing is in it. */
void mb_remove_empty(const char *dir);
/* rm -r below and including path; a path that does not exist is no error. Never follows symbolic links. */
enum mb_status mb_remove_tree(const char *path);
#endif
