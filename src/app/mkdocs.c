/* mkdocs man|completion|schema: writes what is generated from the tables of options, keys and datasets, at
 * build time; schema is for tests. */
#include <stdio.h>
#include <string.h>
#include "conf/conf.h"
#include "io/schema.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "man") == 0)
        mb_conf_man(stdout, mb_schema_man);
    else if (argc == 2 && strcmp(argv[1], "completion") == 0)
        mb_conf_completion(stdout);
    else if (argc == 2 && strcmp(argv[1], "schema") == 0)
        mb_schema_tsv(stdout);
    else
        return fprintf(stderr, "usage: mkdocs man|completion|schema\n"), 1;
    return fflush(stdout) != 0 || ferror(stdout) ? 1 : 0;
}
