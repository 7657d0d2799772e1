/* What the parts of assembly share; for io/assemble.c, io/asm_*.c and io/merge.c only. */
#ifndef MB_IO_ASM_H
#define MB_IO_ASM_H
#include "base/publish.h"
#include "io/assemble.h"
#include "io/group.h"
#include "io/h5.h"

struct mb_asm {
    struct mb_group g;
    int owners;           /* ranks 0 .. owners-1 own rows */
    struct mb_mem *mem;
    uint64_t first_line, lines, requests, round_bytes;
    bool partial;
    const struct mb_pending *pending;
    const struct mb_shape *shape;
    struct mb_rows *rows;
    /* own rows, by (line, choice) */
    struct mb_row_entry *e;
    int64_t n, cap;
    struct mb_assembled totals;
    /* sizes of the results, and where this rank's part begins */
    struct {
        uint64_t rows, prompt, output, bulk;
    } all, base;
    uint64_t top, prompt_top; /* widths of top_ids and prompt_top_ids */
    uint64_t packed; /* bytes of all records */
    const struct mb_openai_options *openai; /* --openai-output, or NULL */
    const char *openai_path;
    const volatile sig_atomic_t *stop;      /* as in struct mb_assemble_options */
    void (*show)(void *arg, const char *what, double part);
    void *show_arg;
    bool openai_replace;            /* the lines may take the place of a file */
    struct mb_publish *openai_file;       /* rank 0: they, written and synced, not yet at their place */
    /* What else goes into the file, on rank 0 at the end; NULL: nothing. */
    enum mb_status (*more)(void *arg, struct mb_h5 *h);
    void *more_arg;
};

/* Sorts own entries, checks and drops duplicates, adds pending rows, and sums up sizes over the group. Collective. */
enum mb_status mb_asm_settle(struct mb_asm *a);
/* Entries of own lines from all journals under dir, exchanged in rounds. identity: of every journal. Collective. */
enum mb_status mb_asm_gather(struct mb_asm *a, const char *dir, const struct mb_identity *identity);
enum mb_status mb_asm_add(struct mb_asm *a, const struct mb_row_entry *e, int64_t n); /* Local */
/* By line, choice, then place; in place. Local. */
void mb_asm_sort(struct mb_row_entry *e, int64_t n);
void mb_asm_fini(struct mb_asm *a); /* Local */
/* Before a round. st: of this rank so far; *left: what it has to do, out: the most that a rank has. done of total own items are
 * behind it. MB_STOP (logged by rank 0) if any rank was asked to stop. Collective. */
enum mb_status mb_asm_round(struct mb_asm *a, enum mb_status st, int64_t *left, const char *what, int64_t done, int64_t total);
/* Forgets the entries, to gather anew for another number of owners. Local. */
void mb_asm_forget(struct mb_asm *a);
/* Bytes that the file has at most, after settling. Local. */
uint64_t mb_asm_bound(const struct mb_asm *a);

/* Numeric datasets and bulk data into an open file: one that all ranks have open, or rank 0's (h is NULL on the others, which
 * own no rows). Collective over a->g. */
enum mb_status mb_asm_numbers(struct mb_asm *a, struct mb_h5 *h);
enum mb_status mb_asm_bulk(struct mb_asm *a, struct mb_h5 *h);
/* Strings of all rows: owners send, rank 0 writes (h: its serial file, NULL on the others). Collective over a->g. */
enum mb_status mb_asm_text(struct mb_asm *a, struct mb_h5 *h);
/* --openai-output: owners make lines, one owner after the other, rank 0 writes them into a->openai_file. Collective over a->g. */
enum mb_status mb_asm_openai(struct mb_asm *a);
/* Scales that have values, root attributes, extras. Rank 0, serial file. */
enum mb_status mb_asm_finish(struct mb_asm *a, struct mb_h5 *h, uint64_t input_lines, const struct mb_identity *identity,
                             const struct mb_extras *extras);
/* Where a file of results goes. */
struct mb_asm_target {
    const char *path, *prefix; /* prefix: of the temporary file; NULL: path */
    unsigned flags;            /* MB_PUBLISH_NEW or 0 */
    const struct mb_rundir *lock; /* whose lock is held while it takes its name; NULL: none */
    enum mb_status (*may)(void *arg); /* asked right before; NULL: yes */
    void *may_arg;
};
/* All of the above into a temporary file, synced, then published; after it the OpenAI lines. Collective. */
enum mb_status mb_asm_write(struct mb_asm *a, const struct mb_asm_target *t, uint64_t input_lines,
                            const struct mb_identity *identity, const struct mb_extras *extras);
#endif
