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

/* Whole file into *out (appended). A file beyond max bytes is refused with st_bad, as is one that can't be read. */
enum mb_status mb_file_read(const char *path, uint64_t max, enum mb_status st_bad, struct mb_bytes *out);

/* Exactly n bytes at off, retrying short reads and EINTR; a short file is st_bad. Logs with the path. */
enum mb_status mb_pread_all(int fd, void *dst, size_t n, uint64_t off, const char *path, enum mb_status st_bad);
/* All n bytes; MB_NO_SPACE for ENOSPC/EDQUOT, else MB_IO. */
enum mb_status mb_write_all(int fd, const void *src, size_t n, const char *path);
enum mb_status mb_pwrite_all(int fd, const void *src, size_t n, uint64_t off, const char *path);

/* Writes path.tmp.PID, fsyncs if sync, renames over path (and fsyncs the directory if sync): readers see all or nothing. */
enum mb_status mb_file_replace(const char *path, const void *src, size_t n, bool sync);
enum mb_status mb_dir_sync(const char *dir);
/* mkdir -p */
enum mb_status mb_mkdirs(const char *path);
/* rm -r below and including path; a path that does not exist is no error. Never follows symbolic links. */
enum mb_status mb_remove_tree(const char *path);
#endif
