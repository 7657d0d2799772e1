/* Lines that are under way while journals are folded: a hash table line -> what is known of its choices. Of io/resume.c
 * only. Local. */
#ifndef MB_IO_RESUME_MAP_H
#define MB_IO_RESUME_MAP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

struct mb_choice_tokens {
    int32_t *ids; /* drawn tokens from the first on */
    int32_t n, cap;
    bool done;
};
struct mb_line_state {
    uint64_t line;
    int32_t n;      /* choices of the line; 0: not known yet */
    int32_t n_done, n_choices;
    struct mb_choice_tokens *choices; /* [n_choices] */
};
/* Zero-initialise. */
struct mb_resume_map {
    struct mb_line_state **slots; /* open addressing; NULL: free */
    uint64_t n_slots, n;          /* a power of two; lines */
};
void mb_resume_map_fini(struct mb_resume_map *m);
/* The state of a line, made if there is none; owned by the map. */
enum mb_status mb_resume_map_get(struct mb_resume_map *m, uint64_t line, struct mb_line_state **out);
void mb_resume_map_drop(struct mb_resume_map *m, uint64_t line);
/* All lines in no order (caller frees the list, not the lines) and their choices in total. */
enum mb_status mb_resume_map_list(const struct mb_resume_map *m, struct mb_line_state ***out, int64_t *n,
                                  int64_t *choices);

/* Choice c of n is done; *again: it was already. MB_CORRUPT if the line had another n. */
enum mb_status mb_line_done(struct mb_line_state *s, int32_t c, int32_t n, bool *again);
/* Token `id` was drawn at `index`. What was known must be the same (MB_CORRUPT); what lies behind a gap (a damaged journal)
 * is ignored. */
enum mb_status mb_line_token(struct mb_line_state *s, int32_t c, uint32_t index, int32_t id);
#endif
