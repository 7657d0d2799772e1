/* Completion for bash, from the tables: commands, the options of a command, choices, file names. */
#include "conf/table.h"

#include <string.h>

static void words(FILE *f, enum mb_command cmd)
{
    for (int i = 0; i < mb_n_opts; i++)
        if (mb_opts[i].commands >> cmd & 1)
            fprintf(f, "--%s ", mb_opts[i].name);
    fputs("--set --help", f);
}

/* Options with choices complete to them; those with DIR or FILE to names. */
static void values(FILE *f)
{
    for (int i = 0; i < mb_n_opts; i++) {
        const struct mb_opt *o = &mb_opts[i];
        if (o->choices != NULL) {
            fprintf(f, "        --%s) COMPREPLY=($(compgen -W '", o->name);
            for (const char *p = o->choices; *p != '\0'; p++)
                fputc(*p == '|' ? ' ' : *p, f);
            fputs("' -- \"$cur\")); return ;;\n", f);
        } else if (o->type == MB_OPT_STRING) {
            if (o->letter)
                fprintf(f, "        -%c | --%s) ", o->letter, o->name);
            else
                fprintf(f, "        --%s) ", o->name);
            fprintf(f, "compopt -o filenames; COMPREPLY=($(compgen -%c -- \"$cur\")); return ;;\n",
                    strcmp(o->metavar, "DIR") == 0 ? 'd' : 'f');
        } else if (o->type != MB_OPT_BOOL) {
            fprintf(f, "        --%s) return ;;\n", o->name);
        }
    }
}

void mb_conf_completion(FILE *f)
{
    fputs("# bash completion for moebatch\n"
          "_moebatch()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=\n"
          "    if [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
          "    if [ \"$cur\" = = ]; then cur=; fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          f);
    for (int i = 0; i < MB_CMD_COUNT; i++)
        fprintf(f, "%s ", mb_cmds[i].name);
    fputs("--help --version' -- \"$cur\"))\n        return\n    fi\n    case $prev in\n", f);
    values(f);
    fputs("    esac\n    case ${COMP_WORDS[1]} in\n", f);
    for (int i = 0; i < MB_CMD_COUNT; i++) {
        fprintf(f, "        %s) words='", mb_cmds[i].name);
        words(f, (enum mb_command)i);
        fputs("' ;;\n", f);
    }
    fputs("    esac\n"
          "    case $cur in\n"
          "        -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
          "        *) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
          "    esac\n}\n"
          "complete -F _moebatch moebatch\n",
          f);
}
