/* The configuration from command line, environment, deck and defaults. */
#include "conf/conf.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "conf/value.h"

#define KEY_BASE 1000 /* argp's key of option i; options with a letter have the letter */
#define KEY_SET 999

struct line { /* what argp's parser works on */
    struct mb_filling *f;
    enum mb_status st;
};

void mb_conf_destroy(struct mb_conf *c)
{
    if (c == NULL)
        return;
    for (int i = 0; i < mb_n_opts; i++)
        if (mb_opts[i].type == MB_OPT_STRING)
            free(*(char **)((char *)c + mb_opts[i].at));
    free(c->model_name);
    for (int32_t i = 0; i < c->n_args; i++)
        free(c->args[i]);
    free(c->args);
    free(c);
}

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for options");
}

static enum mb_status add_arg(struct mb_conf *c, const char *arg)
{
    char **args = realloc(c->args, ((size_t)c->n_args + 1) * sizeof *args);

    if (args == NULL)
        return no_memory();
    c->args = args;
    args[c->n_args] = strdup(arg);
    if (args[c->n_args] == NULL)
        return no_memory();
    c->n_args++;
    return MB_OK;
}

/* The commands that have an option, for messages. */
static void list_commands(const struct mb_opt *o, char *buf, size_t cap)
{
    size_t n = 0;

    buf[0] = '\0';
    for (int i = 0; i < MB_CMD_COUNT && n < cap; i++)
        if (o->commands >> i & 1)
            n += (size_t)snprintf(buf + n, cap - n, "%s%s", n ? ", " : "", mb_cmds[i].name);
}

static enum mb_status set_from_line(struct mb_filling *f, const struct mb_opt *o, const char *text)
{
    char name[MB_NAME_CAP], commands[128];

    if (!(o->commands >> f->c->command & 1)) {
        list_commands(o, commands, sizeof commands);
        return mb_error(MB_USAGE, "--%s is no option of %s, but of: %s", o->name, mb_cmds[f->c->command].name,
                        commands);
    }
    snprintf(name, sizeof name, "--%s", o->name);
    return mb_value_set(f, o, text ? text : o->implied, MB_FROM_LINE, name);
}

/* --set key=value: the same as --key=value. */
static enum mb_status set_pair(struct mb_filling *f, const char *pair)
{
    char key[MB_NAME_CAP];
    const char *eq = strchr(pair, '=');
    size_t n = eq ? (size_t)(eq - pair) : 0;

    if (n == 0 || n >= sizeof key)
        return mb_error(MB_USAGE, "--set %s: key=value is needed", pair);
    memcpy(key, pair, n);
    key[n] = '\0';
    const struct mb_opt *o = mb_opt_find(key);
    if (o == NULL) {
        const char *near = mb_opt_nearest(key);
        return mb_error(MB_USAGE, "--set %s: there is no option %s%s%s%s", pair, key,
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    return set_from_line(f, o, eq + 1);
}

/* argp stopped at an option it does not know, or that lacks its value. */
static enum mb_status explain(const struct argp_state *state)
{
    const char *arg = state->next > 0 && state->next <= state->argc ? state->argv[state->next - 1] : "?";
    char name[MB_NAME_CAP];

    if (arg[0] != '-')
        return mb_error(MB_USAGE, "the option before '%s' is not understood; see moebatch --help", arg);
    const char *word = arg + 1 + (arg[1] == '-');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const struct mb_opt *o = arg[1] == '-' ? mb_opt_find(name) : NULL;
    if (o != NULL && strcmp(o->name, name) == 0)
        return mb_error(MB_USAGE, strchr(word, '=') ? "--%s takes no value" : "--%s needs a value", name);
    for (int i = 0; arg[1] != '-' && i < mb_n_opts; i++)
        if (mb_opts[i].letter == arg[1])
            return mb_error(MB_USAGE, "-%c (--%s) needs a value", arg[1], mb_opts[i].name);
    const char *near = mb_opt_nearest(name);
    if (near != NULL)
        return mb_error(MB_USAGE, "there is no option %s; did you mean --%s?", arg, near);
    return mb_error(MB_USAGE, "there is no option %s; see moebatch --help", arg);
}

static int key_of(int i)
{
    return mb_opts[i].letter ? mb_opts[i].letter : KEY_BASE + i;
}

static const struct mb_opt *option_of(int key)
{
    for (int i = 0; i < mb_n_opts; i++)
        if (key_of(i) == key)
            return &mb_opts[i];
    return NULL;
}

static error_t parse_one(int key, char *arg, struct argp_state *state)
{
    struct line *l = state->input;

    if (key == ARGP_KEY_ERROR) {
        if (l->st == MB_OK)
            l->st = explain(state);
        return 0;
    }
    if (key == ARGP_KEY_ARG)
        l->st = add_arg(l->f->c, arg);
    else if (key == KEY_SET)
        l->st = set_pair(l->f, arg);
    else if (option_of(key) != NULL)
        l->st = set_from_line(l->f, option_of(key), arg);
    else
        return ARGP_ERR_UNKNOWN;
    return l->st == MB_OK ? 0 : EINVAL;
}

/* The table as argp wants it; calloc'd. */
static struct argp_option *argp_rows(void)
{
    struct argp_option *rows = calloc((size_t)mb_n_opts + 2, sizeof *rows);

    if (rows == NULL)
        return NULL;
    for (int i = 0; i < mb_n_opts; i++)
        rows[i] = (struct argp_option){.name = mb_opts[i].name,
                                       .key = key_of(i),
                                       .arg = mb_opts[i].metavar ? mb_opts[i].metavar : "yes|no",
                                       .flags = mb_opts[i].implied ? OPTION_ARG_OPTIONAL : 0};
    rows[mb_n_opts] = (struct argp_option){.name = "set", .key = KEY_SET, .arg = "KEY=VALUE"};
    return rows;
}

static enum mb_status read_line(struct mb_filling *f, int argc, char **argv)
{
    struct argp_option *rows = argp_rows();
    struct argp argp = {.options = rows, .parser = parse_one};
    struct line l = {f, MB_OK};

    if (rows == NULL)
        return no_memory();
    error_t err = argp_parse(&argp, argc, argv, ARGP_SILENT, NULL, &l);
    free(rows);
    if (l.st == MB_OK && err != 0)
        return err == ENOMEM ? no_memory()
                             : mb_error(MB_USAGE, "the command line is not understood; see moebatch --help");
    return l.st;
}

/* MOEBATCH_ variables that are not options: pause points of the tests. */
static bool other_variable(const char *name)
{
    return strncmp(name, "MOEBATCH_FAULT=", 15) == 0;
}

static const struct mb_opt *variable_option(const char *variable, size_t n)
{
    char name[MB_NAME_CAP];

    for (int i = 0; i < mb_n_opts; i++)
        if (strlen(mb_opt_env(&mb_opts[i], name)) == n && strncmp(name, variable, n) == 0)
            return &mb_opts[i];
    return NULL;
}

/* An empty variable counts as not set. An unknown one is no error (a later version may know it), but is said.
 */
static enum mb_status read_environment(struct mb_filling *f, char **environ_)
{
    for (char **e = environ_; e != NULL && *e != NULL; e++) {
        const char *eq = strchr(*e, '=');
        if (strncmp(*e, "MOEBATCH_", 9) != 0 || eq == NULL || eq[1] == '\0' || other_variable(*e))
            continue;
        char name[MB_NAME_CAP];
        const struct mb_opt *o = variable_option(*e, (size_t)(eq - *e));
        if (o == NULL) {
            mb_warn("the environment variable %.*s is no option and is not used", (int)(eq - *e), *e);
            continue;
        }
        MB_TRY(mb_value_set(f, o, eq + 1, MB_FROM_ENV, mb_opt_env(o, name)));
    }
    return MB_OK;
}

/* An option that the word behind bench has no use for is refused on the command line, as one of another command. */
static enum mb_status check_words(const struct mb_filling *f)
{
    static const char *const sizes[] = {"hidden", "experts", "topk"};
    const char *word = f->c->args[0];
    unsigned bit = 0;

    for (int i = 0; i < mb_n_bench_words; i++)
        bit |= strcmp(mb_bench_words[i].name, word) == 0 ? mb_bench_words[i].bit : 0;
    for (int i = 0; i < mb_n_opts; i++)
        if (f->from[i] == MB_FROM_LINE && mb_opts[i].bench != 0 && (mb_opts[i].bench & bit) == 0)
            return mb_error(MB_USAGE, "--%s is no option of bench %s", mb_opts[i].name, word);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && f->c->model[0] != '\0'; i++)
        if (f->from[mb_opt_find(sizes[i]) - mb_opts] == MB_FROM_LINE)
            return mb_error(MB_USAGE, "--%s and --model contradict each other; give one of them", sizes[i]);
    return MB_OK;
}

static enum mb_status read_all(struct mb_filling *f, int argc, char **argv, char **environ_)
{
    for (int i = 0; i < mb_n_opts; i++)
        MB_TRY(mb_value_set(f, &mb_opts[i], mb_opts[i].value, MB_FROM_DEFAULT, mb_opts[i].name));
    if (argc > 0)
        MB_TRY(read_line(f, argc, argv));
    MB_TRY(read_environment(f, environ_));
    if (f->c->config[0] != '\0')
        MB_TRY(mb_deck_read(f, f->c->config));
    MB_TRY(mb_conf_check(f->c));
    return f->c->command == MB_CMD_BENCH ? check_words(f) : MB_OK;
}

static enum mb_status find_command(const char *word, enum mb_command *out)
{
    for (int i = 0; i < MB_CMD_COUNT; i++)
        if (strcmp(mb_cmds[i].name, word) == 0) {
            *out = (enum mb_command)i;
            return MB_OK;
        }
    const char *near = mb_cmd_nearest(word);
    if (near != NULL)
        return mb_error(MB_USAGE, "there is no command '%s'; did you mean 'moebatch %s'?", word, near);
    return mb_error(MB_USAGE, "%s '%s'; see moebatch --help",
                    word[0] == '-' ? "the command comes first, not" : "there is no command", word);
}

/* --help and --version anywhere (before a --), help [COMMAND], version. *special: one of them, c says which.
 */
static enum mb_status find_special(int argc, char **argv, struct mb_conf *c, bool *special)
{
    bool help = argc > 1 && strcmp(argv[1], "help") == 0,
         version = argc > 1 && strcmp(argv[1], "version") == 0;

    c->help_for = MB_CMD_HELP;
    if (argc > 1 && argv[1][0] != '-')
        MB_TRY(find_command(argv[1], &c->command));
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        help = help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        version = version || strcmp(argv[i], "--version") == 0 || (i == 1 && strcmp(argv[i], "-V") == 0);
    }
    *special = help || version;
    if (help && argc > 1 && argv[1][0] != '-')
        c->help_for = c->command;
    if (help && c->help_for == MB_CMD_HELP && argc > 2 && argv[2][0] != '-' && argv[1][0] != '-')
        MB_TRY(find_command(argv[2], &c->help_for));
    if (*special)
        c->command = help ? MB_CMD_HELP : MB_CMD_VERSION;
    return MB_OK;
}

enum mb_status mb_conf_parse(int argc, char **argv, char **environ_, struct mb_conf **out)
{
    bool special = false;
    struct mb_filling f = {calloc(1, sizeof *f.c), calloc((size_t)mb_n_opts, 1)};
    enum mb_status st = f.c && f.from ? MB_OK : no_memory();

    if (st == MB_OK)
        st = find_special(argc, argv, f.c, &special);
    if (st == MB_OK && !special && argc < 2)
        st = mb_error(
            MB_USAGE,
            "a command is needed, as in: moebatch run -m MODEL -i INPUT -o RESULTS.h5; see moebatch --help");
    if (st == MB_OK && !special && argv[1][0] == '-')
        st = find_command(argv[1], &f.c->command);
    if (st == MB_OK && special) /* only the defaults */
        st = read_all(&f, 0, NULL, NULL);
    else if (st == MB_OK)
        st = read_all(&f, argc - 1, argv + 1, environ_);
    free(f.from);
    if (st != MB_OK) {
        mb_conf_destroy(f.c);
        return st;
    }
    *out = f.c;
    return MB_OK;
}
