#include "base/status.h"

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
    [MB_NO_MEMORY] = {"no-memory", 75},
    [MB_NO_SPACE] = {"no-space", 75},
    [MB_IO] = {"io", 75},
    [MB_DEVICE] = {"device", 75},
    [MB_PEER] = {"peer", 75},
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
