/* Reads tensors' bytes: aligned pread, 4 to 64 MiB at a time, no mmap (a failing page fault would be a SIGBUS). Local. */
#ifndef MB_MODEL_READER_H
#define MB_MODEL_READER_H
#include "model/adapter.h"
#include "model/model.h"
#include "model/sums.h"

/* Bytes of a tensor that are read and converted at once, unless a single row has more. */
#define MB_LOAD_CHUNK ((int64_t)16 << 20)

/* What loading a model takes beside its weights: elements of a tensor that are read at once, and bytes of the reader's
 * window over files (for packed weights: of all their parts and the decoded rows, too), of such a chunk as it is sent on, of
 * rows of vectors in f32, and of FP8 scales that are widened. O(files + tensors). */
struct mb_load_sizes {
    int64_t elements, window, pack, f32, scales;
};
void mb_load_sizes_of(const struct mb_model *m, struct mb_load_sizes *out);
/* The same for an adapter. O(files + matrices). */
void mb_load_sizes_of_adapter(const struct mb_adapter *a, struct mb_load_sizes *out);

struct mb_reader;
/* m must outlive the reader. MB_MODEL for a model made from a config.json alone: it has no weights. */
enum mb_status mb_reader_create(const struct mb_model *m, struct mb_mem *mem, struct mb_reader **out);
void mb_reader_destroy(struct mb_reader *r);
/* Takes the window at once. MB_NO_MEMORY. */
enum mb_status mb_reader_reserve(struct mb_reader *r, const struct mb_load_sizes *s);
/* What is read from now on is hashed, too. sums: of the same model; borrowed. */
void mb_reader_sums(struct mb_reader *r, struct mb_sums *sums);
/* Bytes read so far (tensor bytes and scales). */
uint64_t mb_reader_bytes(const struct mb_reader *r);

/* Reads rows [n0, n0 + n) of a tensor (logical rows) and describes them as a host matrix over memory that stays valid until
 * the next call. Whole span if n = t->n. Errors: MB_IO (file shorter than its header said: MB_MODEL). */
enum mb_status mb_reader_rows(struct mb_reader *r, const struct mb_tensor *t, int64_t n0, int64_t n,
                              struct mb_host_matrix *out);
/* Says that the tensor will be read soon: the kernel may begin to fetch it. A file that cannot be opened is left for the
 * read to report. */
void mb_reader_advise(struct mb_reader *r, const struct mb_tensor *t);
/* Converts a host matrix to packed f32 [n][k]. Exact (fp8: fl32(fp8 * scale)). */
void mb_host_to_f32(const struct mb_host_matrix *m, float *dst);
/* Codes, or FP8, as a blob of this form (device/form.h): theirs, k0 that of the matrix's first column. */
void mb_host_blob(const struct mb_host_matrix *m, const struct mb_form *f, void *blob);
#endif
