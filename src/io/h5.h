/* HDF5 in the few forms the results need. io/h5.c, io/h5_read.c and io/h5_tree.c alone include hdf5.h. Files that were created with a
 * communicator are written collectively: every rank calls every function with the same arguments but for selections and
 * data. Files opened or created without one are serial (no MPI is touched). Strings are vlen UTF-8 and exist in serial
 * files only. Errors are logged with file, dataset and HDF5's reason: MB_NO_SPACE, MB_IO when writing; MB_INPUT when
 * reading (not an HDF5 file, no such dataset, another type or shape). */
#ifndef MB_IO_H5_H
#define MB_IO_H5_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

#define MB_H5_MAX_RANK 4
/* Where the axes without values are (mb_h5_axis). */
#define MB_H5_AXES "/axes/"

enum mb_h5_type {
    MB_H5_U8, MB_H5_U16, MB_H5_U32, MB_H5_I32, MB_H5_U64, MB_H5_I64, MB_H5_F32, MB_H5_F64,
    MB_H5_KIND, MB_H5_STATUS, MB_H5_FINISH, /* enums of the schema, u8 in memory */
    MB_H5_TEXT,                             /* char * in memory */
    MB_H5_TYPES
};
/* Bytes of one element in memory. */
uint64_t mb_h5_size(enum mb_h5_type t);

struct mb_h5;
struct mb_h5_set { /* an open dataset; read only for others */
    struct mb_h5 *file;
    char *path;
    int64_t id;
    enum mb_h5_type type;
    int rank; /* 0: a scalar */
    uint64_t dims[MB_H5_MAX_RANK];
};

/* To be called before MPI_Init (else, and without MPI, the first file does it): HDF5 then does nothing of its own when the
 * process or MPI ends. After a file could not be closed because the disk is full, 1.10.8 crashes there, and the exit code
 * would be that of the crash. */
void mb_h5_init(void);

/* Creating in two steps, so that ranks can agree between them: mb_h5_new allocates (Local); mb_h5_begin creates the file, replacing
 * what is there. comm: an MPI_Comm (mb_comm_mpi), over which it is then collective, or NULL. mb_h5_close takes h after either. */
enum mb_status mb_h5_new(const char *path, struct mb_h5 **out);
enum mb_status mb_h5_begin(struct mb_h5 *h, const void *comm);
/* Both at once. */
enum mb_status mb_h5_create(const char *path, const void *comm, struct mb_h5 **out);
enum mb_status mb_h5_open(const char *path, bool write, struct mb_h5 **out);
/* Flushes and closes; every dataset must be closed. NULL ok. */
enum mb_status mb_h5_close(struct mb_h5 *h);

/* Makes a dataset and the groups above it. chunk: elements per chunk along each dimension (then shuffled, deflated, checked), or
 * NULL: one piece. Chunks larger than the dataset are cut; a dataset without elements is one piece. */
enum mb_status mb_h5_make(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, const uint64_t *dims,
                          const uint64_t *chunk, struct mb_h5_set **out);
bool mb_h5_has(struct mb_h5 *h, const char *path);
/* Opens a dataset that must have this type and rank, and be stored: MB_INPUT if it claims more elements than the file holds (but
 * for axes, which have no values). */
enum mb_status mb_h5_find(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, struct mb_h5_set **out);
void mb_h5_set_close(struct mb_h5_set *s); /* NULL ok */

/* A box [start, start + count) of a dataset, row-major in memory; rank 0: start and count are NULL. Any count 0: nothing is
 * transferred (but in a collective file the call must be made). */
enum mb_status mb_h5_write(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, const void *data);
enum mb_status mb_h5_read(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, void *dst);
/* Strings [from, from + *n) of a dataset of rank 1, as far as they take no more than `most` bytes: *n is halved until they do,
 * to 1 at least. To be freed as after mb_h5_read. */
enum mb_status mb_h5_read_texts(struct mb_h5_set *s, uint64_t from, uint64_t most, uint64_t *n, char **dst);
/* Frees n strings that a read put into v. */
void mb_h5_free_text(char **v, uint64_t n);

/* Whole dataset at once: make, write, close. Serial files. */
enum mb_status mb_h5_put(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, const uint64_t *dims,
                         const void *data);

/* Copies a group or dataset, with all that is in it, but for attributes (checksums, axes), from one file into another
 * under another path. Serial files. */
enum mb_status mb_h5_copy(struct mb_h5 *from, const char *path, struct mb_h5 *to, const char *new_path);
/* Copies every member of a group but `skip` into another group, which is made. */
enum mb_status mb_h5_copy_members(struct mb_h5 *from, const char *group, const char *skip, struct mb_h5 *to,
                                  const char *new_group);

/* Attributes of the object at path ("/" is the file). Writing replaces. */
enum mb_status mb_h5_attr_text(struct mb_h5 *h, const char *path, const char *name, const char *value);
enum mb_status mb_h5_attr_i64(struct mb_h5 *h, const char *path, const char *name, int64_t value);
/* malloc'd. */
enum mb_status mb_h5_get_text(struct mb_h5 *h, const char *path, const char *name, char **out);
enum mb_status mb_h5_get_i64(struct mb_h5 *h, const char *path, const char *name, int64_t *out);

/* Dimension scales (HDF5's convention): makes path a scale; attaches it to a dimension; names a dimension. */
enum mb_status mb_h5_scale(struct mb_h5 *h, const char *path, const char *name);
enum mb_status mb_h5_attach(struct mb_h5 *h, const char *path, int dim, const char *scale);
enum mb_status mb_h5_label(struct mb_h5 *h, const char *path, int dim, const char *label);

/* A scale of n elements that have no values (and take no room), as netCDF has them; MB_H5_AXES is where they go. */
enum mb_status mb_h5_axis(struct mb_h5 *h, const char *path, const char *name, uint64_t n);
enum mb_status mb_h5_group(struct mb_h5 *h, const char *path); /* makes one */

/* Every dataset of the types above in the file, in the order of its paths; links out of the file are not followed. s lives
 * for the call. Serial files. */
typedef enum mb_status mb_h5_visit(void *arg, struct mb_h5_set *s);
enum mb_status mb_h5_walk(struct mb_h5 *h, mb_h5_visit *fn, void *arg);
/* Every scalar text or integer (as decimal digits) among the attributes of the object at path, in the order of their names. */
typedef enum mb_status mb_h5_visit_attr(void *arg, const char *name, const char *value);
enum mb_status mb_h5_attrs(struct mb_h5 *h, const char *path, mb_h5_visit_attr *fn, void *arg);
bool mb_h5_has_attr(struct mb_h5 *h, const char *path, const char *name);

/* "HDF5 1.10.8", for provenance; at least 16 bytes. */
void mb_h5_version(char *out, unsigned long n);
#endif
