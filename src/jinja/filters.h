/* The filters over sequences (sequences.c), for the table in filters.c. */
#ifndef MB_JINJA_FILTERS_H
#define MB_JINJA_FILTERS_H
#include "jinja/own.h"

typedef bool mb_jfilter_fn(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a,
                           struct mb_jval *out);
mb_jfilter_fn mb_jf_batch, mb_jf_dictsort, mb_jf_first, mb_jf_groupby, mb_jf_items, mb_jf_join, mb_jf_last,
    mb_jf_length, mb_jf_list, mb_jf_map, mb_jf_max, mb_jf_min, mb_jf_reject, mb_jf_rejectattr, mb_jf_reverse,
    mb_jf_select, mb_jf_selectattr, mb_jf_sort, mb_jf_sum, mb_jf_unique;

/* str(v) as a string of the arena. */
bool mb_jtext(struct mb_jctx *c, struct mb_jval v, struct mb_jstr *out);
/* Copies the strings of a value that was made from JSON which goes away. */
bool mb_jown(struct mb_jctx *c, struct mb_jval *v, int depth);
bool mb_jdict_items(struct mb_jctx *c, const struct mb_jdict *d, enum mb_jkind kind, struct mb_jval *out);
#endif
