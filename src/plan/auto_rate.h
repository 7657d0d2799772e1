/* Memory and cost of one layout after the other. Of the planner only (auto.c). */
#ifndef MB_PLAN_AUTO_RATE_H
#define MB_PLAN_AUTO_RATE_H
#include "plan/auto.h"

/* What layouts of one number of stages and tensor ranks have in common, computed when first asked for. */
struct mb_auto_sizes;
enum mb_status mb_auto_sizes_create(const struct mb_auto_in *in, struct mb_auto_sizes **out);
void mb_auto_sizes_destroy(struct mb_auto_sizes *z); /* NULL ok */
/* As mb_auto_rate. O(1) but for what is computed once. */
enum mb_status mb_auto_rate_with(const struct mb_auto_in *in, struct mb_auto_sizes *z,
                                 const struct mb_layout *l, struct mb_candidate *out,
                                 char why[MB_LAYOUT_TEXT]);
#endif
