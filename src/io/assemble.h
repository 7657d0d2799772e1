/* RESULTS.h5 from journals. Every rank owns a contiguous range of input lines, hence of result rows; what journals say
 * about them is exchanged in rounds of bounded memory; numeric datasets are written collectively, every rank in every
 * round; then rank 0 alone adds strings, provenance, units and dimension scales with the serial driver. A small result
 * has one owner, rank 0, and is written serially throughout: the same code. The file appears by rename when it is whole.
 *
 * Memory of a rank: about 90 bytes per row it owns, plus the buffers of a round. */
#ifndef MB_IO_ASSEMBLE_H
#define MB_IO_ASSEMBLE_H
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "comm/comm.h"
#include "io/extras.h"
#include "io/identity.h"
#include "io/openai.h"
#include "io/rows.h"
#include "io/rundir.h"
#include "io/shape.h"

struct mb_assemble_options {
    const struct mb_rundir *dir;
    struct mb_comm *comm;              /* NULL: one process, no MPI */
    struct mb_mem *mem;                /* may be NULL */
    const struct mb_identity *identity;
    const struct mb_shape *shape;
    uint64_t input_lines;              /* of the unsplit input */
    uint64_t first_line, lines;        /* of this shard */
    uint64_t requests;                 /* lines of it that have rows */
    bool partial;                      /* rows that are not done become pending ones */
    const struct mb_pending *pending;  /* what is known of them; NULL: one row a line */
    const struct mb_extras *extras;    /* rank 0 */
    const struct mb_openai_options *openai; /* on every rank; NULL: no --openai-output */
    const char *openai_path;           /* where it goes; rank 0's counts */
    bool openai_replace;               /* it may take the place of a file that is there */
    enum mb_status (*may)(void *arg);  /* rank 0: asked under the lock before the results take their name; NULL: whether the run
                                        * is the newest */
    void *may_arg;
    const volatile sig_atomic_t *stop; /* set: this rank was asked to stop; NULL: never */
    /* Called on every rank before each round: what is being done, and how much of its own part (0 to 1). May be NULL. */
    void (*show)(void *arg, const char *what, double part);
    void *show_arg;
    uint64_t min_lines;                /* lines an owner has at least; 0: chosen */
    uint64_t round_bytes;              /* of the buffers of a round; 0: 16 MiB */
};

struct mb_assembled {
    int64_t rows, errors, pending;
    int64_t prompt_tokens, output_tokens;
    int64_t requests; /* lines with all choices done */
};

/* Collective over the ranks of comm. All ranks get the same status. Errors: MB_STOP (logged) if rows are missing and partial
 * is false, if another run took over, or if a rank was asked to stop before the results are whole (what is half
 * written is removed); MB_CORRUPT if two records of a row differ; MB_IO, MB_NO_SPACE, MB_NO_MEMORY. The
 * journals stay (mb_rundir_finish removes them). */
enum mb_status mb_assemble(const struct mb_assemble_options *o, struct mb_assembled *out);
#endif
