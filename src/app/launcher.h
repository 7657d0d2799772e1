/* What started the ranks: mpirun, srun or nothing. Local. */
#ifndef MB_APP_LAUNCHER_H
#define MB_APP_LAUNCHER_H
#include <stddef.h>
#include "base/status.h"

enum mb_launcher { MB_LAUNCHER_NONE, MB_LAUNCHER_MPIRUN, MB_LAUNCHER_SRUN };
/* By the environment of this process. */
enum mb_launcher mb_launcher(void);

/* The words before program in the command line that started these ranks, as far as they are known: those of
 * mpirun where it is the parent of this process; else launcher and number of ranks with the mapping that the
 * environment tells of. *words: malloc'd, ending with NULL, and one block with what it points to; NULL: one
 * rank, and no launcher. Errors: MB_NO_MEMORY. */
enum mb_status mb_launcher_words(const char *program, int ranks, char ***words);
/* The same from the text of a command line, each word ended by a zero byte. *words: NULL where it is no
 * launcher of MPI or does not start program. Pure. */
enum mb_status mb_launcher_parse(const char *cmdline, size_t n, const char *program, char ***words);
#endif
