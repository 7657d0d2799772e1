#include "app/bench_rules.h"

#include <stdio.h>
#include <string.h>

static const struct mb_bench_rule rules[] = {
    {"demo", "the demo of moebatch (inputs/models/demo)", "24x32+16", 1, "96438e86b0ef200e"},
    {"granite-1b", "ibm-granite/granite-3.0-1b-a400m-base (inputs/configs/granite-3.0-1b-a400m)", "64x64+32",
     1, "a3ac7179efbc0014"},
};
enum { N = sizeof rules / sizeof *rules };

const struct mb_bench_rule *mb_bench_rule_named(const char *name)
{
    for (int i = 0; i < N; i++) {
        if (strcmp(rules[i].name, name) == 0)
            return &rules[i];
    }
    return NULL;
}

void mb_bench_rule_names(char *out, unsigned long n)
{
    size_t at = 0;

    out[0] = '\0';
    for (int i = 0; i < N && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%s", i > 0 ? ", " : "", rules[i].name);
}
