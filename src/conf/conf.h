/* The one option table and the immutable configuration it fills: command line over environment over deck over default.
 * One row per option gives parsing, help, deck key (the option's name with _ for -), environment name (MOEBATCH_ + upper
 * case), completion, man page and the effective deck in the results. Local. */
#ifndef MB_CONF_CONF_H
#define MB_CONF_CONF_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/status.h"

enum mb_command {
    MB_CMD_RUN, MB_CMD_SCORE, MB_CMD_PLAN, MB_CMD_INSPECT, MB_CMD_STATUS, MB_CMD_ASSEMBLE, MB_CMD_MERGE, MB_CMD_COMPARE,
    MB_CMD_TOKENIZE, MB_CMD_CHECK, MB_CMD_EXPORT, MB_CMD_BENCH, MB_CMD_VERIFY, MB_CMD_CTL, MB_CMD_QUANTIZE, MB_CMD_HELP, MB_CMD_VERSION, MB_CMD_COUNT
};

/* Strings are never NULL: "" where an option is not given. */
struct mb_conf {
    enum mb_command command;
    enum mb_command help_for; /* MB_CMD_HELP: whose help was asked for (MB_CMD_HELP: the overview) */
    /* files */
    char *model_name; /* NULL: that of model; else what was asked for where model is the directory found for it */
    char *model, *input, *output, *config, *openai_output, *stage;
    char *adapter;             /* NAME=DIR[,NAME=DIR...] */
    char **args; /* positional arguments */
    int32_t n_args;
    /* layout; sizes: 0 where not given */
    char *layout;              /* "" or auto */
    char *cluster, *workload;  /* plan: "" where not given */
    double deadline_hours, price; /* 0: none */
    char *profile, *profile_out; /* "" or files */
    char *bench_class;         /* bench run: of the rule */
    char *simulate;            /* plan: "" or routes */
    int64_t simulate_rows;     /* 0: of a step that generates */
    bool sbatch;
    int64_t expert_parallel_size, num_experts_per_gpu, expert_tensor_parallel_size, expert_data_parallel_size;
    int64_t data_parallel_size, pipeline_parallel_size, tensor_parallel_size, sequence_parallel_size, attention_data_parallel_size;
    char *expert_scope;        /* stage, lane */
    char *disaggregate;        /* "" or A:X */
    int32_t disaggregate_attention, disaggregate_experts; /* the same as numbers; 0, 0 where not given */
    char *placement;           /* uniform, scattered, usage, capacity, or a file */
    char *expert_usage;        /* "" or the results of earlier jobs, by commas */
    char *placement_before, *placement_out; /* "" or files */
    int64_t num_redundant_experts;
    int64_t zero_inference, min_experts, prefetch;
    char *alltoall;            /* auto, flat, hier */
    char *overlap;             /* auto, on, off */
    int64_t max_num_seqs; /* -1: auto */
    int64_t max_batch_rows, max_num_batched_tokens; /* the same, under two names */
    int64_t max_model_len, kv_pages;
    bool prefix_caching;
    char *speculative;         /* off, ngram[:N], mtp[:N] */
    enum mb_conf_guess { MB_GUESS_OFF, MB_GUESS_NGRAM, MB_GUESS_MTP } guess; /* the same, */
    int32_t guesses;           /* and how many a step: at most, or under guess_always always */
    bool guess_always;
    double gpu_memory_utilization;
    int64_t threads;
    char *backend, *isa;
    int64_t shm_size, a2a_eager; /* bytes; accept K, M, G */
    /* numbers */
    char *dtype;               /* auto, f32, bf16, int8 */
    char *weights;             /* auto, stored, wide */
    char *kv_dtype;            /* auto, int8 */
    int64_t k, kv_segment;
    int64_t seed;
    /* requests */
    int64_t max_tokens;
    char *generation_config;   /* auto, none, or a file */
    double temperature, top_p, min_p, repetition_penalty; /* -1: not given */
    int64_t top_k;             /* -1: not given */
    char *stop;                /* "", a string, or a JSON list of strings */
    char *add_bos;             /* auto, yes, no */
    char *truncate;            /* "" or left */
    char *now;                 /* "", a date, or a time of RFC 3339 */
    int64_t now_time;          /* the same: seconds since 1970, UTC */
    bool strict;
    char *order;               /* input, prefix, length */
    char *shard;               /* "" or I/N, 1 <= I <= N */
    int32_t shard_index, shard_count; /* the same as numbers, from 0; 0 of 1 where not given */
    /* results */
    bool save_routing, save_hidden;
    char *save_logits;         /* "", all, last */
    int64_t save_limit;        /* bytes */
    bool resume, overwrite, takeover, keep;
    double deadline, sync_interval, max_hours;
    /* bench */
    char *rows;                /* numbers of rows, "1-96,128" */
    int64_t repeats, buffer;   /* samples of each thing; bytes */
    bool csv;
    double fraction;           /* verify: of the rows */
    char *random_weights;      /* "" or a config.json, or a directory with one */
    char *against;             /* "" or a model to run the same workload beside */
    char *decode_batches;      /* numbers of sequences, "1,8,32" */
    int64_t num_requests, concurrency;
    char *expect_digest;       /* "" or 16 hexadecimal digits */
    char *hidden, *experts, *topk, *tokens; /* lists of sizes */
    char *routes;              /* uniform, zipf:S */
    double threshold;          /* of a difference, as a part */
    /* inspect, status, assemble, tokenize, export */
    char *format; /* export: openai, jsonl, csv; quantize: int8, fp8, mxfp4, int4 */
    int64_t group_size; /* quantize: 0: the form's own */
    char *calibration;  /* quantize: "" or requests */
    bool digest, check, in_order, requests, text, errors, routing, json, partial, decode, no_special;
};

/* Parses argv (argv[1] is the command; --help/--version anywhere), the environment's MOEBATCH_... and the deck. Only
 * options that the command has are set; keys and variables of other commands are checked but stay at their default (one
 * deck serves all commands), on the command line they are refused. Errors: MB_USAGE (command line, environment), or
 * MB_INPUT (deck), logged with option, value and what would be right. *out is owned by the caller. argv may be reordered. */
enum mb_status mb_conf_parse(int argc, char **argv, char **environ_, struct mb_conf **out);
void mb_conf_destroy(struct mb_conf *c);
/* malloc'd YAML of every option of the command with its effective value (sizes in bytes), but not --config; as a deck it
 * gives the same configuration again. NULL without memory. */
char *mb_conf_deck(const struct mb_conf *c);
/* Name of a command ("run"). */
const char *mb_command_name(enum mb_command cmd);
/* --help text of a command (MB_CMD_HELP: overview), man page, bash completion: all from the table. datasets: writes the list of
 * what is in a results file, which another room has. */
void mb_conf_help(FILE *f, enum mb_command cmd);
void mb_conf_man(FILE *f, void (*datasets)(FILE *f));
void mb_conf_completion(FILE *f);
#endif
