/* Which lines repeat an id: 64-bit hashes while the index is made, verified by reading both ids again. Local. */
#ifndef MB_IO_INDEX_IDS_H
#define MB_IO_INDEX_IDS_H
#include <stdint.h>
#include "base/mem.h"
#include "job/request.h"

struct mb_id_seen {
    uint64_t hash, line;
};
struct mb_ids_seen { /* zero-initialise, set mem */
    struct mb_id_seen *v;
    uint64_t n, cap;
    struct mb_mem *mem;
};
void mb_ids_seen_fini(struct mb_ids_seen *s);
/* Lines come in ascending order. number: the line has no id but its number. Errors: MB_NO_MEMORY (logged). */
enum mb_status mb_ids_seen_put(struct mb_ids_seen *s, const struct mb_text *id, uint64_t line);
enum mb_status mb_ids_seen_number(struct mb_ids_seen *s, uint64_t line);

/* Calls repeated(arg, line) for every line whose id an earlier line has. read_id gives a line's id again (malloc'd data,
 * freed here). */
enum mb_status mb_ids_seen_repeated(struct mb_ids_seen *s,
                                    enum mb_status (*read_id)(void *arg, uint64_t line, struct mb_text *id),
                                    void (*repeated)(void *arg, uint64_t line), void *arg);
#endif
