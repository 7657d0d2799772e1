#include "comm/rooms.h"

#include "base/log.h"

enum mb_status mb_room_alloc(const struct mb_room_home *h, int id, int64_t bytes, void **host,
                             struct mb_buf **buf)
{
    const struct mb_room_row *r = &mb_room_rows[id];
    enum mb_status st = MB_OK;

    if (bytes == 0)
        return MB_OK;
    if (r->kind == MB_ROOM_DEVICE)
        st = h->ops->buf_alloc(h->dev, r->cat, (uint64_t)bytes, buf);
    else if (r->kind == MB_ROOM_PINNED)
        st = h->ops->host_alloc(h->dev, (uint64_t)bytes, host);
    else
        *host = mb_zalloc(h->mem, r->cat, (size_t)bytes, 1);
    if (st == MB_OK && (r->kind == MB_ROOM_DEVICE || *host != NULL))
        return MB_OK;
    return mb_error(MB_NO_MEMORY,
                    "no memory for %lld bytes (%s); fewer rows a step (--max-batch-rows) need less",
                    (long long)bytes, r->name);
}

void mb_room_free(const struct mb_room_home *h, int id, void *host, struct mb_buf *buf)
{
    if (mb_room_rows[id].kind == MB_ROOM_DEVICE)
        h->ops->buf_free(buf);
    else if (mb_room_rows[id].kind == MB_ROOM_PINNED)
        h->ops->host_free(h->dev, host);
    else
        mb_free(host);
}
