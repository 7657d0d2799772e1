/* Where the ranks of a job run, for people: hosts, CPUs and threads of each node, and what is wrong with it.
 * Pure, Local. */
#ifndef MB_APP_NODES_H
#define MB_APP_NODES_H
#include "app/launcher.h"
#include "topo/topo.h"

#define MB_NODES_ROWS 8 /* lines at most that mb_nodes_text makes */
/* One line for each kind of node, by '\n', in the order of nodes: "n[1-3]: 2 ranks x 4 threads on CPUs 0-3 |
 * 4-7". Nodes of a kind have the same ranks, threads and CPUs. malloc'd; NULL without memory. */
char *mb_nodes_text(const struct mb_topo *t);

/* "n[1-3,7],head": host names as Slurm writes them. names: [n], each at most 63 bytes, sorted here. malloc'd;
 * NULL without memory. */
char *mb_hosts_text(const char **names, int32_t n);

/* What keeps CPUs idle or makes ranks share them, on the first node of which it is true, with the switch that
 * mends it: ranks that were bound to fewer CPUs than the job has there, threads that share the CPUs of a
 * mask, more ranks than CPUs. false: nothing. */
#define MB_ADVICE_TEXT 400
bool mb_nodes_advice(const struct mb_topo *t, enum mb_launcher by, char out[MB_ADVICE_TEXT]);
#endif
