/* --help: from the tables, for a terminal of 80 columns. */
#include "conf/table.h"

#include <stdlib.h>
#include <string.h>

#define WIDTH 79
#define HELP_COLUMN 31

/* Prints words of text from column `at`, wrapped, later lines indented to `indent`. */
static void wrap(FILE *f, const char *text, int at, int indent)
{
    bool first = true;

    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (!first && at + 1 + (int)n > WIDTH) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            fputc(' ', f);
            at++;
        }
        fprintf(f, "%.*s", (int)n, text);
        at += (int)n;
        text += n + strspn(text + n, " ");
        first = false;
    }
    fputc('\n', f);
}

static void print_row(FILE *f, const char *label, const char *text)
{
    int n = fprintf(f, "  %s", label);

    if (n >= HELP_COLUMN) {
        fputc('\n', f);
        n = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - n, "");
    wrap(f, text, HELP_COLUMN, HELP_COLUMN);
}

static bool shows_default(const struct mb_opt *o)
{
    return o->type != MB_OPT_BOOL && o->value[0] != '\0' && strcmp(o->value, "0") != 0;
}

static void print_option(FILE *f, const struct mb_opt *o)
{
    char label[128], text[512];

    mb_opt_label(o, label, sizeof label);
    if (shows_default(o))
        snprintf(text, sizeof text, "%s (default %s)", o->help, o->value);
    else
        snprintf(text, sizeof text, "%s", o->help);
    print_row(f, label, text);
}

static void print_section(FILE *f, enum mb_command cmd, enum mb_opt_section s)
{
    bool titled = false;

    for (int i = 0; i < mb_n_opts; i++) {
        if (mb_opts[i].section != s || !(mb_opts[i].commands >> cmd & 1))
            continue;
        if (!titled)
            fprintf(f, "\n%s:\n", mb_section_title(s));
        titled = true;
        print_option(f, &mb_opts[i]);
    }
}

static void overview(FILE *f)
{
    fprintf(f, "moebatch runs Mixture-of-Experts language models as a batch job: requests in,\n"
               "one HDF5 file out, the same bits on any number of ranks.\n\n"
               "Usage: moebatch COMMAND [OPTION...]\n\nCommands:\n");
    for (int i = 0; i < MB_CMD_COUNT; i++)
        fprintf(f, "  %-10s %s\n", mb_cmds[i].name, mb_cmds[i].summary);
    fprintf(f, "\nmoebatch COMMAND --help shows the options of a command, man moebatch everything.\n\n"
               "Examples:\n"
               "  moebatch run -m MODEL -i requests.jsonl -o results.h5\n"
               "  mpirun -n 8 moebatch run -m MODEL -i requests.jsonl -o results.h5\n"
               "  moebatch inspect results.h5 --digest\n\n"
               "Exit status: 0 done, 1 usage, 2 bad input or model or layout, 3 error rows under\n"
               "--strict, 75 stopped early (--resume goes on), 70 corruption or bug.\n");
}

void mb_conf_help(FILE *f, enum mb_command cmd)
{
    const struct mb_cmd *c = &mb_cmds[cmd];

    if (cmd == MB_CMD_HELP || cmd >= MB_CMD_COUNT) {
        overview(f);
        return;
    }
    int n = fprintf(f, "Usage: moebatch %s ", c->name);
    wrap(f, c->synopsis, n, 16);
    fputc('\n', f);
    wrap(f, c->help ? c->help : c->summary, 0, 0);
    for (int s = 0; s < MB_SEC_COUNT; s++)
        print_section(f, cmd, (enum mb_opt_section)s);
    fprintf(f, "\nCommon:\n");
    print_row(f, "    --set KEY=VALUE", "the same as --KEY=VALUE");
    print_row(f, "-h, --help", "this text");
    print_row(f, "    --version", "version and libraries");
    if (cmd == MB_CMD_RUN || cmd == MB_CMD_SCORE) {
        fputc('\n', f);
        wrap(f,
             "Every option is also a key of the deck (max_tokens: 64) and an environment variable "
             "(MOEBATCH_MAX_TOKENS=64). The command line wins over the environment, the environment over the "
             "deck.",
             0, 0);
    }
}
