/* The option table and the command table: constant data. One row per option gives parsing, help, deck key,
 * environment name, completion, man page and the effective deck. */
#ifndef MB_CONF_TABLE_H
#define MB_CONF_TABLE_H
#include "conf/conf.h"

enum mb_opt_type {
    MB_OPT_STRING, /* char * */
    MB_OPT_INT,    /* int64_t */
    MB_OPT_SIZE,   /* int64_t bytes; K, M, G, T are powers of 1,024 */
    MB_OPT_REAL,   /* double */
    MB_OPT_BOOL    /* bool */
};

enum mb_opt_section {
    MB_SEC_FILES,
    MB_SEC_LAYOUT,
    MB_SEC_MEMORY,
    MB_SEC_NUMBERS,
    MB_SEC_REQUESTS,
    MB_SEC_RESULTS,
    MB_SEC_JOB,
    MB_SEC_BENCH,
    MB_SEC_SHOW,
    MB_SEC_COUNT
};

/* The words that may stand behind bench, in the order of mb_bench_words. */
enum mb_bench_word { MB_BENCH_GEMM = 1, MB_BENCH_THROUGHPUT = 2, MB_BENCH_LATENCY = 4, MB_BENCH_ALLTOALL = 8, MB_BENCH_COMPARE = 16, MB_BENCH_NODES = 32, MB_BENCH_RUN = 64, MB_BENCH_CALIBRATE = 128 };
struct mb_word {
    const char *name;
    unsigned bit;
};
extern const struct mb_word mb_bench_words[];
extern const int mb_n_bench_words;

struct mb_opt {
    const char *name; /* as after --; the deck key has _ for -, the environment MOEBATCH_ and upper case */
    char letter;      /* short form, or 0 */
    enum mb_opt_type type;
    enum mb_opt_section section;
    const char *value;   /* default, as the user would write it */
    const char *metavar; /* what help calls the value; NULL for switches */
    const char *choices; /* words separated by |; NULL: free */
    const char *word;    /* of MB_OPT_INT: may stand in place of a number, and is -1 */
    const char *implied; /* the value of the bare option; NULL: a value is needed (switches: yes) */
    double lo, hi;       /* range of numbers */
    unsigned commands;   /* bit (1 << enum mb_command) */
    unsigned bench;      /* of an option of bench: the words behind it that have it, bits of enum mb_bench_word; 0: all */
    size_t at;           /* offset in struct mb_conf */
    const char *help;
};

extern const struct mb_opt mb_opts[];
extern const int mb_n_opts;
const char *mb_section_title(enum mb_opt_section s);

struct mb_cmd {
    const char *name;
    const char *synopsis; /* what follows "moebatch NAME" */
    const char *summary;  /* one line */
    const char *help;     /* a paragraph */
    int min_args, max_args;
};
extern const struct mb_cmd mb_cmds[MB_CMD_COUNT];

/* The row of an option or deck key (- and _ are the same), or NULL. */
const struct mb_opt *mb_opt_find(const char *name);
/* Deck key and environment name of a row into buf (cap bytes), returned. */
#define MB_NAME_CAP 64
char *mb_opt_key(const struct mb_opt *o, char buf[MB_NAME_CAP]);
char *mb_opt_env(const struct mb_opt *o, char buf[MB_NAME_CAP]);
/* The name nearest to a misspelt one, or NULL if none is near. Keys are compared with _. */
const char *mb_opt_nearest(const char *name);
const char *mb_cmd_nearest(const char *name);
/* The label of a row in help: "-m, --model DIR". */
void mb_opt_label(const struct mb_opt *o, char *buf, size_t cap);
#endif
