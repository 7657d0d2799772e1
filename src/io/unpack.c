#include "io/unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include "base/fs.h"
#include "base/log.h"

#define CHUNK ((size_t)256 << 10)

enum mb_packed mb_packed_of(int fd)
{
    unsigned char b[4] = {0};

    if (pread(fd, b, sizeof b, 0) < 4)
        return MB_PACKED_NOT;
    if (b[0] == 0x1f && b[1] == 0x8b)
        return MB_PACKED_GZIP;
    return memcmp(b, "\x28\xb5\x2f\xfd", 4) == 0 ? MB_PACKED_ZSTD : MB_PACKED_NOT;
}

static enum mb_status damaged(const char *name, const char *why)
{
    return mb_error(MB_INPUT, "%s: can't be unpacked: %s", name, why);
}

static enum mb_status read_some(int fd, const char *name, void *buf, size_t *n)
{
    ssize_t got;
    do {
        got = read(fd, buf, CHUNK);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return mb_error(MB_IO, "%s: reading: %s", name, strerror(errno));
    *n = (size_t)got;
    return MB_OK;
}

/* One member ends, the next may begin. */
static enum mb_status gunzip(z_stream *z, int from, const char *name, int to, const char *path, unsigned char *buf)
{
    unsigned char *in = buf, *out = buf + CHUNK;
    bool inside = false;
    size_t n;

    for (;;) {
        if (z->avail_in == 0) {
            MB_TRY(read_some(from, name, in, &n));
            if (n == 0)
                return inside ? damaged(name, "it ends too early") : MB_OK;
            z->next_in = in;
            z->avail_in = (uInt)n;
        }
        z->next_out = out;
        z->avail_out = CHUNK;
        inside = true;
        int r = inflate(z, Z_NO_FLUSH);
        if (r != Z_OK && r != Z_STREAM_END)
            return r == Z_MEM_ERROR ? mb_error(MB_NO_MEMORY, "no memory to unpack %s", name)
                                    : damaged(name, z->msg != NULL ? z->msg : "it is cut short or damaged");
        MB_TRY(mb_write_all(to, out, CHUNK - z->avail_out, path));
        if (r == Z_STREAM_END) {
            inside = false;
            inflateReset(z);
        }
    }
}

static enum mb_status from_gzip(int from, const char *name, int to, const char *path, unsigned char *buf)
{
    z_stream z = {0};

    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return mb_error(MB_NO_MEMORY, "no memory to unpack %s", name);
    enum mb_status st = gunzip(&z, from, name, to, path, buf);
    inflateEnd(&z);
    return st;
}

static enum mb_status unzstd(ZSTD_DStream *z, int from, const char *name, int to, const char *path, unsigned char *buf)
{
    size_t more = 0, n;

    for (;;) {
        MB_TRY(read_some(from, name, buf, &n));
        if (n == 0)
            return more != 0 ? damaged(name, "it ends too early") : MB_OK;
        ZSTD_inBuffer in = {buf, n, 0};
        ZSTD_outBuffer out;
        do {
            out = (ZSTD_outBuffer){buf + CHUNK, CHUNK, 0};
            more = ZSTD_decompressStream(z, &out, &in);
            if (ZSTD_isError(more))
                return damaged(name, ZSTD_getErrorName(more));
            MB_TRY(mb_write_all(to, out.dst, out.pos, path));
        } while (in.pos < in.size || out.pos == out.size);
    }
}

static enum mb_status from_zstd(int from, const char *name, int to, const char *path, unsigned char *buf)
{
    ZSTD_DStream *z = ZSTD_createDStream();

    if (z == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to unpack %s", name);
    enum mb_status st = unzstd(z, from, name, to, path, buf);
    ZSTD_freeDStream(z);
    return st;
}

enum mb_status mb_unpack(enum mb_packed how, int from, const char *name, int to, const char *path)
{
    unsigned char *buf = malloc(2 * CHUNK);

    if (buf == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to unpack %s", name);
    enum mb_status st = how == MB_PACKED_GZIP ? from_gzip(from, name, to, path, buf) : from_zstd(from, name, to, path, buf);
    free(buf);
    return st;
}
