/* What io/h5.c, io/h5_read.c and io/h5_tree.c share; for these only. */
#ifndef MB_IO_H5_OWN_H
#define MB_IO_H5_OWN_H
#include <hdf5.h>
#include "io/h5.h"

struct mb_h5 {
    hid_t id;
    char *path;
    bool collective;
    bool writes;
    enum mb_status
        lost; /* what a dataset kept in memory could not be written when it was closed: mb_h5_close tells */
};
/* Closes a dataset of h. HDF5 writes what it has kept of it only then, and forgets it if that fails. */
void mb_h5_shut(struct mb_h5 *h, const char *path, hid_t dataset);
/* Logs with HDF5's innermost reason; writing: MB_IO or MB_NO_SPACE, else MB_INPUT. */
enum mb_status mb_h5_failed(const struct mb_h5 *h, const char *path, const char *what, bool writing);
/* Whether a type in the file is what a member of the schema has; enums only need one byte. */
bool mb_h5_type_fits(hid_t t, enum mb_h5_type want);
/* The type in the file, which is also the one in memory (x86-64 is little-endian): nothing is ever converted,
 * which a collective transfer could not do. To be closed. */
hid_t mb_h5_type_of(enum mb_h5_type t);
hid_t mb_h5_text_type(void);
/* Not open yet. */
enum mb_status mb_h5_set_new(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank,
                             struct mb_h5_set **out);
/* Selects the box in a copy of the file's space and makes a space of its shape for memory; true: it is empty.
 */
bool mb_h5_select(const struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, hid_t *in_file,
                  hid_t *in_mem);
#endif
