/* mkdocs man|completion: writes what is generated from the option table, at build time. */
#include <stdio.h>
#include <string.h>
#include "conf/conf.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "man") == 0)
        mb_conf_man(stdout);
    else if (argc == 2 && strcmp(argv[1], "completion") == 0)
        mb_conf_completion(stdout);
    else
        return fprintf(stderr, "usage: mkdocs man|completion\n"), 1;
    return fflush(stdout) != 0 || ferror(stdout) ? 1 : 0;
}
