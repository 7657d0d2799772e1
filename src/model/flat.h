/* Pieces of the flat form of models and adapters: a head with a hash, texts, arrays. Reading checks every length. Local. */
#ifndef MB_MODEL_FLAT_H
#define MB_MODEL_FLAT_H
#include "base/mem.h"
#include "model/model.h"

struct mb_flat {
    const uint8_t *at;
    size_t left;
};

/* Writing: begin leaves room for the head and returns its place; end fills it in. what: distinguishes kinds and versions. */
enum mb_status mb_flat_begin(struct mb_bytes *b, size_t *head);
void mb_flat_end(struct mb_bytes *b, size_t head, uint64_t what);
/* dir, n_files, files, file_bytes of m */
enum mb_status mb_flat_put_files(struct mb_bytes *b, const struct mb_model *m);

/* Reading. Errors: MB_CORRUPT. Arrays are malloc'd; out_pointer: address of the pointer. */
enum mb_status mb_flat_open(const void *data, size_t n, uint64_t what, struct mb_flat *out);
enum mb_status mb_flat_damaged(const char *what);
enum mb_status mb_flat_take(struct mb_flat *f, void *dst, size_t n);
enum mb_status mb_flat_take_array(struct mb_flat *f, uint64_t n, size_t size, void *out_pointer);
enum mb_status mb_flat_take_files(struct mb_flat *f, struct mb_model *m);
/* Everything a reader relies on. */
enum mb_status mb_flat_check_tensor(const struct mb_model *files, const struct mb_tensor *t);
#endif
