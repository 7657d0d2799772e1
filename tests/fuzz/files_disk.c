#include "files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <errno.h>
#include <unistd.h>

void fuzz_dir(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        abort();
}

void fuzz_file(const char *path, const void *data, size_t n, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || pwrite(fd, data, n, 0) != (ssize_t)n || ftruncate(fd, (off_t)size) != 0)
        abort();
    close(fd);
}

void fuzz_link(const char *from, const char *to)
{
    if (link(from, to) != 0)
        abort();
}

void fuzz_files_end(void)
{
}
