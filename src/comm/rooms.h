/* Buffers of plan's table (plan/rooms.h) in memory: allocated and freed by their rows. For the exchange and
 * the engine. Local. */
#ifndef MB_COMM_ROOMS_H
#define MB_COMM_ROOMS_H
#include "device/ops.h"
#include "plan/rooms.h"

struct mb_room_home {
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_mem *mem;
};
/* The buffer `id` of so many bytes, zeroed: *host, or *buf for one on the device; 0 bytes: nothing. Errors:
 * MB_NO_MEMORY, logged. */
enum mb_status mb_room_alloc(const struct mb_room_home *h, int id, int64_t bytes, void **host,
                             struct mb_buf **buf);
void mb_room_free(const struct mb_room_home *h, int id, void *host, struct mb_buf *buf); /* NULL ok */
#endif
