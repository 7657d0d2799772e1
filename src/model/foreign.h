/* Files that are found where weights or settings should be and are something else: what they are, for
 * messages. Local. */
#ifndef MB_MODEL_FOREIGN_H
#define MB_MODEL_FOREIGN_H
#include <stddef.h>

#define MB_FOREIGN_HEAD 64 /* bytes from the start of a file that tell */

/* What a file with these first bytes is, with what to do about it ("a Git-LFS pointer ...; git lfs pull gets
 * it"); NULL: nothing that is known. */
const char *mb_foreign_kind(const void *head, size_t n);
/* The same of a file; NULL too if it can't be read. */
const char *mb_foreign_file(const char *path);
/* The file of dir with weights in another form that is nearest to one that is read (of several, the first by name): out gets "; found NAME, which is ..." (cut to
 * cap), or nothing. */
const char *mb_foreign_in(const char *dir, char *out, size_t cap);
#endif
