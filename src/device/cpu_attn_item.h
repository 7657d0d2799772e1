/* Inside attention: a call, and the items it is cut into. An item is a few neighbouring rows of one sequence
 * times the query heads that share a KV head: together they are the rows ("vectors" here) of two small GEMMs
 * per block of 64 keys, scores and values, around an online softmax (cpu_attn_block.c). Which blocks are
 * folded, and what becomes of the states, is the operations' own (cpu_attn.c, cpu_attn_parts.c). */
#ifndef MB_DEVICE_CPU_ATTN_ITEM_H
#define MB_DEVICE_CPU_ATTN_ITEM_H
#include "device/cpu_attn.h"

enum { MB_ATTN_VECTORS = 48 }; /* most vectors of an item */

/* Neighbouring rows of one sequence (attention_parts: that list the same segments). */
struct mb_attn_rows {
    int64_t row;
    int32_t rows;
    int32_t seq, first, last; /* blocks of 64 keys that any of them sees */
};
struct mb_attn {
    const struct mb_attn_args *a;
    const struct mb_kv *kv;
    const struct mb_tile_kernels *k;
    const struct mb_attn_vec *vec;
    int32_t group, head_parts; /* query heads per KV head; items they are cut into */
    struct mb_attn_rows *rows;
    int64_t n_rows;
    int32_t depth;   /* states that an item keeps at a time */
    uint64_t floats; /* scratch of a thread */
    float *scratch;
};

/* One thread's item. Arrays over vectors v = row * heads + head. */
struct mb_attn_item {
    const struct mb_attn *t;
    const struct mb_attn_rows *r;
    int32_t kv_head, head, heads, n; /* n vectors: rows * heads */
    struct mb_cut cut;
    float *q, *s, *p, *pv,
        *o;               /* packed q; scores [4][n][16]; packed p; pv [panels][n][16]; o: depth of those */
    void *values;         /* a block's values where they can't be read in place */
    void *keys;           /* its keys as bf16, where pages are bytes */
    struct mb_osm *state; /* [depth][n] */
    int32_t first[MB_ATTN_VECTORS], last[MB_ATTN_VECTORS];
    float alpha[MB_ATTN_VECTORS]; /* < 0: the block has nothing for this vector */
    bool fresh[MB_ATTN_VECTORS];  /* the vector's first block of the segment */
    const int32_t *chosen;        /* positions that its only row sees, ascending, of those not yet folded; NULL: no choice */
    const int32_t *chosen_end;
};

/* ---------------------------------------------------------------- cpu_attn.c */
/* Checks what attention and attention_parts share and fills t, without rows: *most is how many rows an item
 * may have. */
enum mb_status mb_attn_open(struct mb_attn *t, struct mb_stream *s, const struct mb_attn_args *a,
                            const char *op, int32_t *most);
/* Row i is checked and added to the last of t->rows (room for all), or to a new one if `apart` or it does not
 * fit there. */
enum mb_status mb_attn_add_row(struct mb_attn *t, int64_t i, int32_t most, bool apart);
/* MB_BUG unless pages first .. last of the sequence of r lie inside the pool. */
enum mb_status mb_attn_check_pages(const struct mb_attn *t, const struct mb_attn_rows *r, int32_t first,
                                   int32_t last);
/* Whether row i sees less than all up to its position. */
static inline bool mb_attn_chooses(const struct mb_attn_args *a, int64_t i)
{
    return mb_has_view(a->chosen) && mb_at_i32(a->chosen, i) >= 0;
}
/* MB_BUG unless the choices of the rows, if there are any, are what choose_keys writes. */
enum mb_status mb_attn_check_choices(const struct mb_attn_args *a, const char *op);
/* The item of a row that chooses gets its choice. */
static inline void mb_attn_take_choice(struct mb_attn_item *it)
{
    if (!mb_attn_chooses(it->t->a, it->r->row))
        return;
    it->chosen = mb_row_i32(it->t->a->chosen, it->r->row) + 1;
    it->chosen_end = it->chosen + it->chosen[-1];
}
/* First position that a row at pos sees. */
static inline int32_t mb_attn_lowest(const struct mb_attn_args *a, int32_t pos)
{
    return mb_first_seen(a->window, a->chunked, pos);
}

/* ---------------------------------------------------------------- cpu_attn_block.c */
/* Scratch for t->depth states in every thread, and `extra` floats (a multiple of 16) behind them; MB_NO_MEMORY (logged). */
enum mb_status mb_attn_scratch(struct mb_attn *t, struct mb_stream *s, uint64_t extra);
static inline float *mb_attn_extra(const struct mb_attn *t, int32_t thread, uint64_t extra)
{
    return t->scratch + (uint64_t)(thread + 1) * t->floats - extra;
}
/* The item of rows r, KV head kv_head and part `part` of its query heads, in the scratch of a thread; q is
 * packed. */
void mb_attn_item(struct mb_attn_item *it, const struct mb_attn *t, const struct mb_attn_rows *r,
                  int32_t kv_head, int32_t part, int32_t thread);
/* state[0 .. n) of the item becomes absent. */
void mb_attn_clear(const struct mb_attn_item *it, struct mb_osm *state);
/* it->s = raw dots of every vector with the keys of a block, [4][n][16]; next: will be read after it. */
void mb_attn_dots(const struct mb_attn_item *it, int32_t block, const void *next);
/* Folds a block into state and o; under a choice blocks come in ascending order. next: the block that will be folded after it (or itself). */
void mb_attn_fold_block(struct mb_attn_item *it, int32_t block, int32_t next, struct mb_osm *state, float *o);
#endif
