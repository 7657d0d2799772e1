/* The configuration: precedence, every kind of mistake, and the deck that reads back to the same
 * configuration. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/publish.h"
#include "conf/table.h"

#define MAX_ARGS 32
#define RUN "run", "-m", "M", "-i", "I", "-o", "O"

static char deck_path[256];

static int make_deck(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(deck_path, sizeof deck_path, "%s/unit_conf.%ld.yaml", tmp ? tmp : "/tmp", (long)getpid());
    return 0;
}

static int drop_deck(void **state)
{
    (void)state;
    unlink(deck_path);
    return 0;
}

static void write_deck(const char *text)
{
    assert_int_equal(mb_publish_bytes(deck_path, text, strlen(text), 0), MB_OK);
}

/* Parses "moebatch" and the words up to NULL; what was logged goes to log (cap bytes). */
static enum mb_status parse(char **env, struct mb_conf **out, char *log, size_t cap, va_list words)
{
    char *argv[MAX_ARGS + 2] = {(char *)"moebatch"};
    int argc = 1, keep = dup(STDERR_FILENO), pipe_ends[2];

    for (char *w; argc <= MAX_ARGS && (w = va_arg(words, char *)) != NULL;)
        argv[argc++] = w;
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK), 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    enum mb_status st = mb_conf_parse(argc, argv, env, out);
    dup2(keep, STDERR_FILENO);
    ssize_t n = read(pipe_ends[0], log, cap - 1);
    log[n > 0 ? n : 0] = '\0';
    close(keep);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return st;
}

static struct mb_conf *good(char **env, ...)
{
    char log[2048];
    struct mb_conf *c = NULL;
    va_list words;

    va_start(words, env);
    enum mb_status st = parse(env, &c, log, sizeof log, words);
    va_end(words);
    if (st != MB_OK)
        print_error("unexpected: %s\n", log);
    assert_int_equal(st, MB_OK);
    assert_string_equal(log, "");
    return c;
}

/* The words fail with this status and a message that contains `says`. */
static void fails(char **env, enum mb_status want, const char *says, ...)
{
    char log[2048];
    struct mb_conf *c = NULL;
    va_list words;

    va_start(words, says);
    enum mb_status st = parse(env, &c, log, sizeof log, words);
    va_end(words);
    assert_int_equal(st, want);
    assert_null(c);
    if (strstr(log, says) == NULL)
        print_error("expected '%s' in: %s\n", says, log);
    assert_non_null(strstr(log, says));
}

static void test_defaults(void **state)
{
    (void)state;
    struct mb_conf *c = good(NULL, RUN, NULL);

    assert_int_equal(c->command, MB_CMD_RUN);
    assert_string_equal(c->model, "M");
    assert_string_equal(c->config, "");
    assert_string_equal(c->placement, "uniform");
    assert_true(c->shm_size == 64 << 20);
    assert_true(c->a2a_eager == 64 << 10);
    assert_true(c->save_limit == 100ll << 30);
    assert_true(c->max_tokens == 256);
    assert_true(c->kv_segment == 512);
    assert_true(c->gpu_memory_utilization == 0.9);
    assert_true(c->deadline == 600);
    assert_string_equal(c->save_logits, "");
    assert_false(c->resume);
    assert_int_equal(c->shard_count, 1);
    assert_int_equal(c->n_args, 0);
    mb_conf_destroy(c);
    mb_conf_destroy(NULL);
}

static void test_precedence(void **state)
{
    (void)state;
    char *env[] = {(char *)"HOME=/",        (char *)"MOEBATCH_MAX_TOKENS=20", (char *)"MOEBATCH_K=2",
                   (char *)"MOEBATCH_ISA=", (char *)"MOEBATCH_FAULT=step:5",  NULL};

    write_deck("model: deckmodel\nmax_tokens: 10\nk: 1\nseed: 7\nisa: avx2\nstrict: true\nsave_limit: 2T\n");
    struct mb_conf *c = good(env, "run", "-c", deck_path, "-i", "I", "-o", "O", "--max-tokens", "30", NULL);
    assert_string_equal(c->model, "deckmodel"); /* deck over default */
    assert_true(c->max_tokens == 30);           /* command line over all */
    assert_true(c->k == 2);                     /* environment over deck */
    assert_true(c->seed == 7);
    assert_string_equal(c->isa, "avx2"); /* an empty variable is not set */
    assert_true(c->strict);
    assert_true(c->save_limit == 2ll << 40);
    mb_conf_destroy(c);
    c = good(env, "run", "--strict=no", "-c", deck_path, "-iI", "--output=O", "--set", "seed=8", "--set",
             "k=3", NULL);
    assert_false(c->strict);
    assert_true(c->seed == 8);
    assert_true(c->k == 3);
    assert_string_equal(c->input, "I");
    mb_conf_destroy(c);
    c = good(NULL, RUN, "--seed", "1", "--seed", "-5", NULL); /* the last one */
    assert_true(c->seed == -5);
    mb_conf_destroy(c);
}

static void test_values(void **state)
{
    (void)state;
    struct mb_conf *c =
        good(NULL, RUN, "--shm-size", "1536K", "--a2a-eager=1MiB", "--save-limit=5GB", "--save-logits",
             "--shard", "3/8", "--deadline", "0.5", "--seed=-9223372036854775808", NULL);

    assert_true(c->shm_size == 1536 << 10);
    assert_true(c->a2a_eager == 1 << 20);
    assert_true(c->save_limit == 5ll << 30);
    assert_string_equal(c->save_logits, "all");
    assert_int_equal(c->shard_index, 2);
    assert_int_equal(c->shard_count, 8);
    assert_true(c->deadline == 0.5);
    assert_true(c->seed == INT64_MIN);
    mb_conf_destroy(c);

    fails(NULL, MB_USAGE, "--threads: '1025' is not a whole number from 0 to 1024", RUN, "--threads", "1025",
          NULL);
    fails(NULL, MB_USAGE, "--threads: '2x'", RUN, "--threads", "2x", NULL);
    fails(NULL, MB_USAGE, "--threads: ' 2'", RUN, "--threads", " 2", NULL);
    fails(NULL, MB_USAGE, "--threads: ''", RUN, "--threads=", NULL);
    fails(NULL, MB_USAGE, "--seed: '9223372036854775808'", RUN, "--seed", "9223372036854775808", NULL);
    fails(NULL, MB_USAGE, "--shm-size: '99999999999T' is not a size", RUN, "--shm-size", "99999999999T",
          NULL);
    fails(NULL, MB_USAGE, "--shm-size: '-1'", RUN, "--shm-size", "-1", NULL);
    fails(NULL, MB_USAGE, "--shm-size: '1KG'", RUN, "--shm-size", "1KG", NULL);
    fails(NULL, MB_USAGE, "--deadline: 'nan'", RUN, "--deadline", "nan", NULL);
    fails(NULL, MB_USAGE, "'1.5' is not a number from 0.01 to 1", RUN, "--gpu-memory-utilization", "1.5",
          NULL);
    fails(NULL, MB_USAGE, "'fp4' is none of auto|f32|bf16", RUN, "--dtype", "fp4", NULL);
    fails(NULL, MB_USAGE, "'f3' is none of", RUN, "--dtype", "f3", NULL);
    fails(NULL, MB_USAGE, "'' is none of", RUN, "--dtype", "", NULL);
    fails(NULL, MB_USAGE, "no valid UTF-8", "run", "-m", "\xff", NULL);
    fails(NULL, MB_USAGE, "--strict: 'maybe' is neither yes nor no", RUN, "--strict=maybe", NULL);
}

static void test_bad_lines(void **state)
{
    (void)state;
    fails(NULL, MB_USAGE, "a command is needed", NULL);
    fails(NULL, MB_USAGE, "did you mean 'moebatch run'?", "rum", NULL);
    fails(NULL, MB_USAGE, "did you mean 'moebatch inspect'?", "inspekt", NULL);
    fails(NULL, MB_USAGE, "there is no command 'frobnicate'", "frobnicate", NULL);
    fails(NULL, MB_USAGE, "the command comes first", "-m", "M", NULL);
    fails(NULL, MB_USAGE, "did you mean --max-tokens?", RUN, "--max-tokns", "3", NULL);
    fails(NULL, MB_USAGE, "there is no option --zzz", RUN, "--zzz", NULL);
    fails(NULL, MB_USAGE, "there is no option -z", RUN, "-z", NULL);
    fails(NULL, MB_USAGE, "--seed needs a value", RUN, "--seed", NULL);
    fails(NULL, MB_USAGE, "-m (--model) needs a value", "run", "-m", NULL);
    fails(NULL, MB_USAGE, "--digest is no option of run, but of: inspect", RUN, "--digest", NULL);
    fails(NULL, MB_USAGE, "--set k: key=value is needed", RUN, "--set", "k", NULL);
    fails(NULL, MB_USAGE, "there is no option kk; did you mean k?", RUN, "--set", "kk=1", NULL);
    fails(NULL, MB_USAGE, "run needs a model (-m)", "run", "-i", "I", "-o", "O", NULL);
    fails(NULL, MB_USAGE, "run needs an input (-i)", "run", "-m", "I", "-o", "O", NULL);
    fails(NULL, MB_USAGE, "score needs a results file (-o)", "score", "-m", "I", "-i", "O", NULL);
    fails(NULL, MB_USAGE, "'x': run takes options only", RUN, "x", NULL);
    fails(NULL, MB_USAGE, "status with 0 file names", "status", NULL);
    fails(NULL, MB_USAGE, "status with 2 file names", "status", "a", "b", NULL);
}

static void test_contradictions(void **state)
{
    (void)state;
    fails(NULL, MB_USAGE, "--resume and --overwrite contradict", RUN, "--resume", "--overwrite", NULL);
    fails(NULL, MB_USAGE, "--input and --output are the same file", "run", "-m", "M", "-i", "X", "-o", "X",
          NULL);
    fails(NULL, MB_USAGE, "--kv-segment 100 is not a multiple of 64; 128 is", RUN, "--kv-segment", "100",
          NULL);
    fails(NULL, MB_USAGE, "--max-num-batched-tokens 10 is less than --max-num-seqs 20", RUN, "--max-num-seqs", "20",
          "--max-batch-rows", "10", NULL);
    fails(NULL, MB_USAGE, "--max-num-batched-tokens 30 and --max-batch-rows 40 are the same thing", RUN, "--max-batch-rows", "40",
          "--max-num-batched-tokens", "30", NULL);
    fails(NULL, MB_USAGE, "--max-num-seqs: 'many' is not a whole number", RUN, "--max-num-seqs", "many", NULL);
    fails(NULL, MB_USAGE, "--speculative ngram:0: after ngram: stands a number from 1 to 16", RUN, "--speculative", "ngram:0", NULL);
    fails(NULL, MB_USAGE, "--speculative ngram4: expected off", RUN, "--speculative", "ngram4", NULL);
    fails(NULL, MB_USAGE, "--now 'today'", RUN, "--now", "today", NULL);
    fails(NULL, MB_USAGE, "--now '2026-02-29'", RUN, "--now", "2026-02-29", NULL);
    fails(NULL, MB_USAGE, "--now '2026-11-28T09:30:00'", RUN, "--now", "2026-11-28T09:30:00", NULL);
    fails(NULL, MB_USAGE, "--now '2026-11-28T24:30:00Z'", RUN, "--now", "2026-11-28T24:30:00Z", NULL);
    fails(NULL, MB_USAGE, "--now '2026-11-28Z'", RUN, "--now", "2026-11-28Z", NULL);
    fails(NULL, MB_USAGE, "--shard '0/4'", RUN, "--shard", "0/4", NULL);
    fails(NULL, MB_USAGE, "--shard '5/4'", RUN, "--shard", "5/4", NULL);
    fails(NULL, MB_USAGE, "--shard '1/4x'", RUN, "--shard", "1/4x", NULL);
    fails(NULL, MB_USAGE, "--shard '-1/4'", RUN, "--shard=-1/4", NULL);
    fails(NULL, MB_USAGE, "--shard '/'", RUN, "--shard", "/", NULL);
    fails(NULL, MB_USAGE, "R.h5 and -m (which shows a model) contradict", "inspect", "R.h5", "-m", "M", NULL);
    fails(NULL, MB_USAGE, "--digest and -m", "inspect", "-m", "M", "--digest", NULL);
    fails(NULL, MB_USAGE, "inspect needs a results file or a model", "inspect", NULL);
    fails(NULL, MB_USAGE, "--in-order belongs to --digest", "inspect", "R.h5", "--in-order", NULL);
}

static void test_commands(void **state)
{
    (void)state;
    struct mb_conf *c = good(NULL, "inspect", "--digest", "R.h5", "--requests", NULL);

    assert_int_equal(c->command, MB_CMD_INSPECT);
    assert_int_equal(c->n_args, 1);
    assert_string_equal(c->args[0], "R.h5");
    assert_true(c->digest && c->requests && !c->in_order);
    mb_conf_destroy(c);
    c = good(NULL, "merge", "A.h5", "-o", "R.h5", "B.h5", "--", "-C.h5", NULL);
    assert_int_equal(c->n_args, 3);
    assert_string_equal(c->args[1], "B.h5");
    assert_string_equal(c->args[2], "-C.h5");
    mb_conf_destroy(c);
    c = good(NULL, "tokenize", "-m", "M", "--decode", "--no-special", NULL);
    assert_true(c->decode && c->no_special);
    mb_conf_destroy(c);
    static const struct {
        const char *a, *b;
        enum mb_command command, of;
    } help[] = {
        {"--help", NULL, MB_CMD_HELP, MB_CMD_HELP},     {"run", "--help", MB_CMD_HELP, MB_CMD_RUN},
        {"help", NULL, MB_CMD_HELP, MB_CMD_HELP},       {"help", "merge", MB_CMD_HELP, MB_CMD_MERGE},
        {"-h", NULL, MB_CMD_HELP, MB_CMD_HELP},         {"--version", NULL, MB_CMD_VERSION, MB_CMD_HELP},
        {"version", NULL, MB_CMD_VERSION, MB_CMD_HELP}, {"check", "--version", MB_CMD_VERSION, MB_CMD_HELP}};
    for (size_t i = 0; i < sizeof help / sizeof *help; i++) {
        c = good(NULL, help[i].a, help[i].b, NULL);
        assert_int_equal(c->command, help[i].command);
        assert_int_equal(c->help_for, help[i].of);
        mb_conf_destroy(c);
    }
}

static void deck_fails(const char *text, const char *says)
{
    write_deck(text);
    fails(NULL, MB_INPUT, says, RUN, "-c", deck_path, NULL);
}

static void test_bad_decks(void **state)
{
    (void)state;
    deck_fails("k: 1\nmax_token: 3\n", ":2: there is no key 'max_token'; did you mean 'max_tokens'?");
    deck_fails("max-tokens: 3\n", "did you mean 'max_tokens'?");
    deck_fails("k: 1\nseed: 2\nk: 1\n", ":3: the key 'k' was already given in line 1");
    deck_fails("config: x.yaml\n", "can't name another deck");
    deck_fails("k: [1, 2]\n", "must be one plain value");
    deck_fails("k: {a: 2}\n", "must be one plain value");
    deck_fails("? [a]\n: 1\n", "a deck is a mapping");
    deck_fails("- k\n", "a deck is a mapping");
    deck_fails("k: 1\n---\nk: 2\n", "one YAML document");
    deck_fails("k: 'open\n", ":2:");
    deck_fails("k: -1\n", ":1: k: '-1' is not a whole number");
    deck_fails("digest: perhaps\n", "neither yes nor no"); /* another command's key is checked, too */
    deck_fails("dtype: \"f32\\0\"\n", "NUL");
    fails(NULL, MB_INPUT, "/no/such/deck.yaml", RUN, "-c", "/no/such/deck.yaml", NULL);
    write_deck("# nothing\n");
    mb_conf_destroy(good(NULL, RUN, "-c", deck_path, NULL));
    write_deck("k:\nseed: ~\ndigest: yes\n"); /* null: not given; digest is inspect's */
    struct mb_conf *c = good(NULL, RUN, "-c", deck_path, NULL);
    assert_true(c->k == 0 && c->seed == 0 && !c->digest);
    mb_conf_destroy(c);
}

static void test_bad_environment(void **state)
{
    (void)state;
    char *bad[] = {(char *)"MOEBATCH_K=many", NULL}, *other[] = {(char *)"MOEBATCH_DIGEST=1", NULL};
    char *unknown[] = {(char *)"MOEBATCH_TOKEN=1", NULL};
    char log[512];

    fails(bad, MB_USAGE, "MOEBATCH_K: 'many' is not a whole number", RUN, NULL);
    struct mb_conf *c = good(other, RUN, NULL); /* inspect's */
    assert_false(c->digest);
    mb_conf_destroy(c);
    c = good(other, "inspect", "R.h5", NULL);
    assert_true(c->digest);
    mb_conf_destroy(c);
    (void)log;
    fails(unknown, MB_USAGE, "MOEBATCH_TOKEN is no option", "run", NULL); /* said even when the rest fails */
}

static void same_conf(const struct mb_conf *a, const struct mb_conf *b)
{
    char va[40], vb[40];

    for (int i = 0; i < mb_n_opts; i++) {
        if (strcmp(mb_opts[i].name, "config") == 0)
            continue;
        const char *p = (const char *)a + mb_opts[i].at, *q = (const char *)b + mb_opts[i].at;
        switch (mb_opts[i].type) {
        case MB_OPT_STRING:
            assert_string_equal(*(char *const *)p, *(char *const *)q);
            break;
        case MB_OPT_BOOL:
            assert_int_equal(*(const bool *)p, *(const bool *)q);
            break;
        default: /* both 8 bytes */
            memcpy(va, p, 8);
            memcpy(vb, q, 8);
            assert_memory_equal(va, vb, 8);
        }
    }
}

/* Strings that YAML could take for something else, and numbers at their limits. */
static void test_round_trip(void **state)
{
    (void)state;
    struct mb_conf *c =
        good(NULL, "run", "-m", "~", "-i", "null", "-o", "a: b # c \"q\" \\ \n\t'x' \xc3\xa4\xf0\x9f\x98\x80",
             "--stage", "- 1", "--add-bos", "no", "--seed", "9223372036854775807", "--deadline",
             "0.30000000000000004", "--shm-size", "1G", "--save-logits=last", "--strict", "--shard", "1/2",
             "--openai-output", " pad ", NULL);
    char *deck = mb_conf_deck(c);

    assert_non_null(deck);
    write_deck(deck);
    struct mb_conf *d = good(NULL, "run", "-c", deck_path, NULL);
    same_conf(c, d);
    char *again = mb_conf_deck(d);
    assert_string_equal(deck, again);
    assert_non_null(strstr(deck, "\nseed: 9223372036854775807\n"));
    assert_null(strstr(deck, "digest"));
    free(deck);
    free(again);
    mb_conf_destroy(c);
    mb_conf_destroy(d);
}

/* What every row must have; no two share a name, a letter or a member. */
static void test_table(void **state)
{
    (void)state;
    char a[MB_NAME_CAP], label[128];

    for (int i = 0; i < mb_n_opts; i++) {
        const struct mb_opt *o = &mb_opts[i];
        assert_non_null(o->help);
        assert_non_null(o->value);
        assert_true(o->commands != 0);
        assert_true(strlen(o->name) + 12 < MB_NAME_CAP);
        assert_true((o->metavar != NULL) == (o->type != MB_OPT_BOOL));
        assert_ptr_equal(mb_opt_find(mb_opt_key(o, a)), o);
        mb_opt_label(o, label, sizeof label);
        assert_non_null(strstr(label, o->name));
        for (int j = 0; j < i; j++) {
            assert_true(mb_opts[j].at != o->at);
            assert_true(o->letter == 0 || o->letter != mb_opts[j].letter);
        }
    }
}

static void test_help(void **state)
{
    (void)state;
    for (int cmd = 0; cmd < MB_CMD_COUNT; cmd++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        mb_conf_help(f, (enum mb_command)cmd);
        assert_int_equal(fclose(f), 0);
        for (int i = 0; i < mb_n_opts; i++) {
            char name[MB_NAME_CAP];
            snprintf(name, sizeof name, "--%s", mb_opts[i].name);
            if (mb_opts[i].commands >> cmd & 1)
                assert_non_null(strstr(text, name));
        }
        for (char *p = text, *end; *p; p = end + 1) { /* every line fits a terminal */
            end = strchr(p, '\n');
            assert_non_null(end);
            assert_in_range(end - p, 0, 100);
        }
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_values),         cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_contradictions), cmocka_unit_test(test_commands),
        cmocka_unit_test(test_bad_decks),      cmocka_unit_test(test_bad_environment),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_table),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, make_deck, drop_deck);
}
