#include "io/describe.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "io/schema.h"

/* The scale of an axis: a dataset that has its values, or one of /axes, made when it is first met; one that
 * has another length (rows of /logits with --save-logits=last are those of the results) gets a name of its
 * own. */
static enum mb_status attach(struct mb_h5 *h, const struct mb_h5_set *s, int dim, const char *axis,
                             const char *part)
{
    char scale[256];
    if (*part == 0 && strcmp(axis, "request") == 0)
        snprintf(scale, sizeof scale, "/requests/id");
    else if (*part == 0 && strcmp(axis, "MoE layer") == 0 && mb_h5_has(h, "/routing/layers"))
        snprintf(scale, sizeof scale, "/routing/layers");
    else
        snprintf(scale, sizeof scale, MB_H5_AXES "%s%s of %llu", part, axis,
                 (unsigned long long)s->dims[dim]);
    MB_TRY(mb_h5_label(h, s->path, dim, axis));
    if (strcmp(scale, s->path) == 0)
        return MB_OK; /* is one itself */
    if (!mb_h5_has(h, scale)) {
        MB_TRY(mb_h5_axis(h, scale, axis, s->dims[dim]));
        MB_TRY(mb_h5_attr_text(h, scale, "long_name", axis));
        MB_TRY(mb_h5_attr_text(h, scale, "units", ""));
    }
    return mb_h5_attach(h, s->path, dim, scale);
}

static enum mb_status describe(void *arg, struct mb_h5_set *s)
{
    struct mb_h5 *h = arg;
    const struct mb_dataset *d = mb_dataset_find(s->path);
    char part[32];
    if (d == NULL)
        return MB_OK;
    mb_dataset_part(s->path, part);
    MB_TRY(mb_h5_attr_text(h, s->path, "long_name", d->long_name));
    MB_TRY(mb_h5_attr_text(h, s->path, "units", d->unit));
    for (int i = 0; i < s->rank && i < d->rank; i++)
        MB_TRY(attach(h, s, i, d->axes[i], part));
    return MB_OK;
}

enum mb_status mb_describe(struct mb_h5 *h)
{
    MB_TRY(mb_h5_group(h, MB_H5_AXES)); /* first, so that the walk meets no new group of the file */
    return mb_h5_walk(h, describe, h);
}
