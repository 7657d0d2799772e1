/* What every dataset of the results is: long name, unit, the name of each axis, and a dimension scale for
 * each. Local. */
#ifndef MB_IO_DESCRIBE_H
#define MB_IO_DESCRIBE_H
#include "io/h5.h"

/* Puts attributes long_name and units, labels and scales on every dataset that the table knows (io/schema.h),
 * those of merged parts included; scales without values of their own become datasets of /axes. Datasets that
 * it doesn't know stay as they are. Serial file that has no scales but /requests/id and /routing/layers. */
enum mb_status mb_describe(struct mb_h5 *h);
#endif
