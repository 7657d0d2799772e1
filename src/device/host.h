/* Weights on their way from the host to a device: what every backend checks and reads of them alike. Local. */
#ifndef MB_DEVICE_HOST_H
#define MB_DEVICE_HOST_H
#include "device/ops.h"

/* Whether a weight can be what is wanted: MB_BUG. */
enum mb_status mb_weight_check(const struct mb_weight_desc *d);
/* Whether the part m at (n0, k0) lies inside a weight, and has the scales that its storage needs: MB_BUG. */
enum mb_status mb_host_inside(const struct mb_weight_desc *d, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
enum mb_status mb_host_check(const struct mb_host_matrix *m);

/* n elements of row i of a host matrix from column j on, as f32. In the contract's floating-point mode. */
void mb_host_row(const struct mb_host_matrix *m, int64_t i, int64_t j, int64_t n, float *out);

/* Whether m holds codes as a weight of this form keeps them, at the same columns of the whole matrix. */
bool mb_host_fits(const struct mb_form *f, int64_t k0, const struct mb_host_matrix *m);

/* Lists of groups of a weight whose columns name them: [lists][words], and which one each row has. */
struct mb_group_lists {
    int32_t *g_idx;
    int64_t words;
    uint8_t *list_of;
    int32_t lists;
};
/* The list that rows n0 .. of m have: one that is there (*at), or in place of one that no other row has. MB_BUG */
enum mb_status mb_host_list(const struct mb_weight_desc *d, const struct mb_group_lists *l, int64_t n0,
                            const struct mb_host_matrix *m, int32_t *at);
#endif
