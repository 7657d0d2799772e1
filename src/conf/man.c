/* The man page, from the tables. */
#include "conf/request_keys.h"
#include "conf/table.h"

#include <string.h>
#include "config.h"

/* roff text: hyphens of options stay hyphens, a leading dot or quote is no request. */
static void put(FILE *f, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", f);
    for (; *text != '\0'; text++) {
        if (*text == '-')
            fputs("\\-", f);
        else if (*text == '\\')
            fputs("\\e", f);
        else
            fputc(*text, f);
    }
}

static void line(FILE *f, const char *text)
{
    put(f, text);
    fputc('\n', f);
}

static void item(FILE *f, const char *term, const char *text)
{
    fprintf(f, ".TP\n.B ");
    line(f, term);
    line(f, text);
}

static void commands(FILE *f)
{
    char term[256];

    fprintf(f, ".SH COMMANDS\n");
    for (int i = 0; i < MB_CMD_COUNT; i++) {
        snprintf(term, sizeof term, "moebatch %s %s", mb_cmds[i].name, mb_cmds[i].synopsis);
        item(f, term, mb_cmds[i].help ? mb_cmds[i].help : mb_cmds[i].summary);
    }
}

static void option(FILE *f, const struct mb_opt *o)
{
    char label[128];
    const char *sep = "";

    mb_opt_label(o, label, sizeof label);
    fprintf(f, ".TP\n.B ");
    line(f, label + strspn(label, " "));
    put(f, o->help);
    if (o->type != MB_OPT_BOOL && o->value[0] != '\0') {
        fputs(" (default ", f);
        put(f, o->value);
        fputc(')', f);
    }
    fputs(".\n.br\nCommands: ", f);
    for (int i = 0; i < MB_CMD_COUNT; i++)
        if (o->commands >> i & 1) {
            fprintf(f, "%s%s", sep, mb_cmds[i].name);
            sep = ", ";
        }
    fputs(".\n", f);
}

static void options(FILE *f)
{
    fprintf(f, ".SH OPTIONS\n");
    line(f, "A switch takes =no as well, to overrule a deck or the environment. SIZE is bytes, or a number "
            "with K, M, G or T "
            "behind (powers of 1024).");
    for (int s = 0; s < MB_SEC_COUNT; s++) {
        fprintf(f, ".SS %s\n", mb_section_title((enum mb_opt_section)s));
        for (int i = 0; i < mb_n_opts; i++)
            if (mb_opts[i].section == (enum mb_opt_section)s)
                option(f, &mb_opts[i]);
    }
    fprintf(f, ".SS Common\n");
    item(f, "--set KEY=VALUE", "The same as --KEY=VALUE.");
    item(f, "-h, --help", "Help; after a command, its options.");
    item(f, "--version", "Version and libraries.");
}

static void inputs(FILE *f)
{
    fprintf(f, ".SH INPUTS\n");
    line(f, "JSON lines, one request each; kinds may be mixed; a bad line becomes an error row and the job "
            "goes on.");
    item(f, "OpenAI batch",
         "{\"custom_id\", \"method\": \"POST\", \"url\": \"/v1/completions\" or \"/v1/chat/completions\", "
         "\"body\": {...}}. A key whose meaning is not supported is an error row that names it.");
    item(
        f, "plain",
        "{\"id\", \"prompt\", \"prompt_ids\" or \"messages\", \"adapter\", and request keys as below}.");
    item(f, "log-likelihood",
         "{\"id\", \"context\" or \"context_ids\", \"continuation\" or \"continuation_ids\"}.");
    item(f, "rolling", "{\"id\", \"text\" or \"text_ids\"}: the likelihood of every token, from the prefix token on; text_ids: of every token but the first. "
         "Texts longer than the model are scored in disjoint windows, as lm-eval does it.");
    item(f, "*.txt, *.json", "One prompt a line; ShareGPT conversations.");
    fprintf(f, ".PP\n");
    line(f, "Ids given as ids are used as they are, no beginning-of-sequence token is added. An id may be a "
            "string or an "
            "integer; a missing one is the line number; a repeated one is an error row.");
}

/* What a request line may say, from the table by which it is read. */
static void keys(FILE *f)
{
    char values[128], forms[128];

    fprintf(f, ".SH REQUEST KEYS\n");
    line(f, "Beside what they ask, requests that generate may have these keys. null is the same as an absent key, 16.0 the same as 16; "
            "a key that is not known here, or a value out of its range, makes the line an error row that names it. Lines that are scored "
            "have none of them; moebatch score reads plain lines as continuations of nothing, with prompt_logprobs alone.");
    for (int i = 0; i < MB_KEY_COUNT; i++) {
        const struct mb_request_key *k = &mb_request_keys[i];
        mb_request_key_values(k, values, sizeof values);
        mb_request_key_forms(k, forms, sizeof forms);
        fprintf(f, ".TP\n.B ");
        line(f, k->name);
        put(f, values);
        if (k->value != NULL) {
            fputs(" (default ", f);
            put(f, k->value);
            fputc(')', f);
        }
        fputs(": ", f);
        put(f, k->help);
        fputs(".\n.br\nLines: ", f);
        put(f, forms);
        fputs(".\n", f);
    }
}

static void results(FILE *f, void (*datasets)(FILE *f))
{
    fprintf(f, ".SH RESULTS\n");
    line(f, "An HDF5 file, rows in input order: /requests (id, kind, status, finish_reason, text, "
            "logprob_sum, error), /tokens "
            "(prompt and output ids and log-probabilities, with offsets), /routing, /logits and /hidden "
            "where asked for, "
            "/timing, /metrics and /provenance (effective deck, plan, hosts, libraries). Everything outside "
            "/timing, "
            "/physical, /provenance, /metrics and /health has the same bits on any layout; moebatch inspect "
            "--digest prints "
            "a hash of it.");
    line(f, "The file says whether it is whole: compressed data have Fletcher-32 checksums, every dataset its XXH3-128 (attribute "
            "xxh3), the file one of all of them (contents), the digest, and digest_tokens, the digest without routing, logits and "
            "hidden states, which is the same for any set of --save options. moebatch inspect --check computes all of them anew "
            "and names what differs.");
    line(f, "/requests/reply is a sum of 1 (an OpenAI line), 2 (chat), 4 (log-probabilities asked for), 8 (echo) and 16 (prompt_logprobs), and the root "
            "attribute created the time (seconds since 1970) in OpenAI's lines; neither is in the hash.");
    line(f, "While a job runs, RESULTS.h5.d holds its journal and status.json.");
    datasets(f);
}

static void exits(FILE *f)
{
    fprintf(f, ".SH EXIT STATUS\n");
    item(f, "0", "Every request is committed, error rows included.");
    item(f, "1", "Usage.");
    item(f, "2", "Bad input, model or deck, or an impossible layout; found before weights are read.");
    item(f, "3", "Finished, but --strict found error rows.");
    item(f, "70", "Corruption or a bug, with a message.");
    item(f, "75", "Stopped early (a signal, --max-hours, memory, disk, a lost rank); --resume goes on.");
}

static void environment(FILE *f)
{
    char name[MB_NAME_CAP];

    fprintf(f, ".SH ENVIRONMENT\n");
    line(f, "Every option has a variable. The command line wins over the environment, the environment over "
            "the deck, the deck "
            "over the default. Variables of options that a command does not have are not used by it.");
    fprintf(f, ".PP\n.ad l\n");
    for (int i = 0; i < mb_n_opts; i++)
        fprintf(f, "%s%s", i ? ",\n" : "", mb_opt_env(&mb_opts[i], name));
    fprintf(f, ".\n.ad b\n");
}

static void examples(FILE *f)
{
    static const char *const text[][2] = {
        {"One rank:", "moebatch run -m MODEL -i requests.jsonl -o results.h5"},
        {"Eight ranks, with the routing of every token:",
         "mpirun -n 8 moebatch run -m MODEL -i requests.jsonl -o results.h5 --save-routing"},
        {"A deck, and one value changed:", "srun moebatch run -c job.yaml --set max_tokens=64"},
        {"Log-likelihoods:", "moebatch score -m MODEL -i lines.jsonl -o scores.h5"},
        {"After exit 75, on other nodes:", "srun moebatch run -c job.yaml --resume"},
        {"Are two results equal?", "moebatch inspect results.h5 --digest"},
        {"Results as CSV, packed:", "moebatch export results.h5 --format csv -o results.csv.gz"},
        {"A model in a quarter of the bits, and what that costs:",
         "moebatch quantize -m MODEL -o MODEL-int4 --format int4 --calibration lines.jsonl"},
        {"Text to ids:", "echo '\"Hello\"' | moebatch tokenize -m MODEL"},
    };

    fprintf(f, ".SH EXAMPLES\n");
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        fprintf(f, ".PP\n");
        line(f, text[i][0]);
        fprintf(f, ".PP\n.RS 4\n.nf\n");
        line(f, text[i][1]);
        fprintf(f, ".fi\n.RE\n");
    }
}

void mb_conf_man(FILE *f, void (*datasets)(FILE *f))
{
    fprintf(f, ".TH MOEBATCH 1 \"\" \"moebatch %s\" \"User Commands\"\n.nh\n.SH NAME\n", PACKAGE_VERSION);
    line(f, "moebatch - batch inference of Mixture-of-Experts language models on a cluster");
    fprintf(f, ".SH SYNOPSIS\n");
    for (int i = 0; i < MB_CMD_COUNT; i++) {
        fprintf(f, "%s.B moebatch %s\n", i ? ".br\n" : "", mb_cmds[i].name);
        if (mb_cmds[i].synopsis[0] != '\0')
            line(f, mb_cmds[i].synopsis);
    }
    fprintf(f, ".SH DESCRIPTION\n");
    line(f, "Runs Mixture-of-Experts language models as a batch job: started by sbatch, srun or mpirun, "
            "requests in, one HDF5 "
            "file out. The results do not depend on how the job was laid out: tokens, log-probabilities and "
            "routing have the "
            "same bits on any number of ranks, with any batch and after any stop and resume.");
    commands(f);
    options(f);
    inputs(f);
    keys(f);
    results(f, datasets);
    exits(f);
    environment(f);
    examples(f);
}
