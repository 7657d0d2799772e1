/* What io/h5.c and io/h5_tree.c share; for these two only. */
#ifndef MB_IO_H5_OWN_H
#define MB_IO_H5_OWN_H
#include <hdf5.h>
#include "io/h5.h"

struct mb_h5 {
    hid_t id;
    char *path;
    bool collective;
};
/* Logs with HDF5's innermost reason; writing: MB_IO or MB_NO_SPACE, else MB_INPUT. */
enum mb_status mb_h5_failed(const struct mb_h5 *h, const char *path, const char *what, bool writing);
/* Whether a type in the file is what a member of the schema has; enums only need one byte. */
bool mb_h5_type_fits(hid_t t, enum mb_h5_type want);
#endif
