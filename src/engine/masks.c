#include "engine/masks.h"

#include <string.h>
#include "base/log.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for the masks of guided requests");
}

void mb_masks_init(struct mb_mem *mem, int32_t slots, int32_t words, struct mb_mask_list *m)
{
    *m = (struct mb_mask_list){.mem = mem, .slots = slots, .words = words};
}

void mb_masks_fini(struct mb_mask_list *m)
{
    mb_free(m->slot);
    mb_free(m->hint);
    mb_free(m->fresh);
    mb_free(m->fresh_bits);
    *m = (struct mb_mask_list){0};
}

void mb_masks_clear(struct mb_mask_list *m)
{
    m->n_fresh = 0;
    m->step++;
}

enum mb_status mb_masks_room(struct mb_mask_list *m, int32_t n)
{
    if (n <= m->cap_fresh)
        return MB_OK;
    int32_t cap = m->cap_fresh == 0 ? 8 : 2 * m->cap_fresh;
    cap = cap < n ? n : cap;
    int32_t *fresh = mb_grow(m->mem, MB_MEM_REQUESTS, m->fresh, (size_t)cap, sizeof *fresh);
    m->fresh = fresh != NULL ? fresh : m->fresh;
    uint32_t *bits =
        mb_grow(m->mem, MB_MEM_REQUESTS, m->fresh_bits, (size_t)cap * (size_t)m->words, sizeof *bits);
    m->fresh_bits = bits != NULL ? bits : m->fresh_bits;
    if (fresh == NULL || bits == NULL)
        return no_memory();
    m->cap_fresh = cap;
    return MB_OK;
}

/* Its slot, or else the one that was not used for longest. */
static int32_t find(const struct mb_mask_list *m, uint64_t number)
{
    int32_t oldest = 0, hint = m->hint[number % MB_MASK_HINTS];

    if (m->slot[hint].number == number)
        return hint;
    for (int32_t i = 0; i < m->slots; i++) {
        if (m->slot[i].number == number)
            return i;
        if (m->slot[i].used < m->slot[oldest].used)
            oldest = i;
    }
    return oldest;
}

enum mb_status mb_masks_put(struct mb_mask_list *m, const struct mb_guide_mask *mask, int32_t *slot)
{
    if (m->slot == NULL)
        m->slot = mb_zalloc(m->mem, MB_MEM_REQUESTS, (size_t)m->slots, sizeof *m->slot);
    if (m->hint == NULL)
        m->hint = mb_zalloc(m->mem, MB_MEM_REQUESTS, MB_MASK_HINTS, sizeof *m->hint);
    if (m->slot == NULL || m->hint == NULL)
        return no_memory();
    int32_t i = find(m, mask->number);
    if (m->slot[i].number != mask->number) {
        if (m->slot[i].number != 0 && m->slot[i].used == m->step)
            return mb_error(MB_BUG, "a step needs more than %d masks", m->slots);
        MB_TRY(mb_masks_room(m, m->n_fresh + 1));
        m->slot[i].number = mask->number;
        m->fresh[m->n_fresh] = i;
        memcpy(m->fresh_bits + (int64_t)m->n_fresh * m->words, mask->bits, 4 * (size_t)m->words);
        m->n_fresh++;
    }
    m->slot[i].used = m->step;
    m->hint[mask->number % MB_MASK_HINTS] = i;
    *slot = i;
    return MB_OK;
}
