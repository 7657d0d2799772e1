/* What operations ask of their operands (device/ops.h), for every backend: types, shapes that fit each other,
 * numbers in range. What lies in the operands' memory is the backend's to check, and so are its own limits.
 * MB_BUG, logged with the operation and the operand. Local, pure. */
#ifndef MB_DEVICE_CHECK_H
#define MB_DEVICE_CHECK_H
#include "device/ops.h"

enum mb_status mb_check_fold(struct mb_view out, const struct mb_fold_args *a);
enum mb_status mb_check_route(struct mb_view experts, struct mb_view weights, struct mb_view bad,
                              struct mb_view z, struct mb_view bias, const struct mb_router *r);
enum mb_status mb_check_logit_stats(struct mb_view stats, struct mb_view best, struct mb_view bad,
                                    struct mb_view z);
enum mb_status mb_check_logprob(struct mb_view out, struct mb_view z, struct mb_view stats,
                                struct mb_view ids);
enum mb_status mb_check_top(struct mb_view ids, struct mb_view logprobs, struct mb_view z,
                            struct mb_view stats);
enum mb_status mb_check_sample(struct mb_view out, struct mb_view z, struct mb_view stats,
                               struct mb_view rows, struct mb_view adjust, struct mb_view masks);
enum mb_status mb_check_norm(struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                             struct mb_view b, enum mb_norm_kind kind, int32_t groups, int32_t leaves);
enum mb_status mb_check_square(struct mb_view out, struct mb_view x);
enum mb_status mb_check_norm_sums(struct mb_view x, struct mb_view sums, struct mb_view w, int64_t n);
enum mb_status mb_check_gemm_r32(struct mb_view out, struct mb_view x, struct mb_view w, struct mb_view bias);
enum mb_status mb_check_conv(struct mb_view out, struct mb_view x, struct mb_view w, struct mb_view state,
                             struct mb_view slot, struct mb_view pos);
enum mb_status mb_check_delta(struct mb_view out, const struct mb_delta_args *a);
#endif
