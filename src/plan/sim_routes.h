/* Rows for the simulator. Pure, Local. */
#ifndef MB_PLAN_SIM_ROUTES_H
#define MB_PLAN_SIM_ROUTES_H
#include <stdint.h>

/* How often each expert of a layer is drawn. sum, order: the caller's memory. */
#define MB_SIM_GUIDE 1024
struct mb_sim_popularity {
    int32_t experts;
    uint64_t *sum;               /* [experts] the part of the experts up to each, of the last one's */
    int32_t guide[MB_SIM_GUIDE]; /* the expert at each of so many steps through it */
    int32_t *order;              /* [experts] by popularity */
};
void mb_sim_popularity_make(struct mb_sim_popularity *p, double exponent, uint64_t seed, int32_t layer);
/* One row: k different experts, each drawn from those that are left by their popularity; ascending. key: of
 * the row. */
void mb_sim_draw(const struct mb_sim_popularity *p, int32_t k, uint64_t seed, const uint32_t key[3],
                 int32_t *out);
#endif
