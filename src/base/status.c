#include "base/status.h"

#include <errno.h>

static const struct {
    const char *name;
    int exit_code;
} rows[MB_STATUS_COUNT] = {
    [MB_OK] = {"ok", 0},
    [MB_USAGE] = {"usage", 1},
    [MB_INPUT] = {"input", 2},
    [MB_MODEL] = {"model", 2},
    [MB_LAYOUT] = {"layout", 2},
    [MB_STOP] = {"stop", 75},
    [MB_NO_MEMORY] = {"no-memory", 71}, /* these as sysexits.h has them */
    [MB_NO_SPACE] = {"no-space", 73},
    [MB_CANT_CREATE] = {"cannot-create", 73},
    [MB_DENIED] = {"denied", 77},
    [MB_IO] = {"io", 74},
    [MB_DEVICE] = {"device", 71},
    [MB_PEER] = {"peer", 75},
    [MB_LOST] = {"lost", 75},
    [MB_DEADLINE] = {"deadline", 75},
    [MB_CORRUPT] = {"corrupt", 70},
    [MB_BUG] = {"bug", 70},
    [MB_REQUEST] = {"request", 70}, /* a request's failure that left its row is a bug */
};

const char *mb_status_name(enum mb_status st)
{
    return (unsigned)st < MB_STATUS_COUNT ? rows[st].name : "unknown";
}

int mb_status_exit(enum mb_status st)
{
    return (unsigned)st < MB_STATUS_COUNT ? rows[st].exit_code : 70;
}

int mb_status_exit_begun(enum mb_status st)
{
    return st >= MB_STOP && st <= MB_DEADLINE ? 75 : mb_status_exit(st);
}

enum mb_status mb_status_of_errno(int err)
{
    switch (err) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return MB_NO_SPACE;
    case EACCES:
    case EPERM:
        return MB_DENIED;
    case EROFS:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return MB_CANT_CREATE;
    case ENOMEM:
        return MB_NO_MEMORY;
    default:
        return MB_IO;
    }
}
