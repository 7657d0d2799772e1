/* What an allocation was measured to do (bench calibrate), in place of data sheets and guesses. Local. */
#ifndef MB_PLAN_PROFILE_H
#define MB_PLAN_PROFILE_H
#include "plan/cluster.h"

#define MB_PROFILE_SCHEMA "moebatch-profile/1"

/* Of the slowest rank, all at work at the same time; 0: not measured. */
struct mb_profile {
    double flops;               /* FLOP/s of matrix products of many rows */
    double bandwidth;           /* bytes/s of weights that products of one row read */
    double link, net;           /* bytes/s each way of a rank inside its node; of a node to others */
    double op;                  /* seconds of the smallest operation */
    double link_wait, net_wait; /* seconds until a small message is there */
};
/* A file that bench calibrate wrote. Errors: MB_INPUT (no such profile; numbers that cannot be), those of
 * reading. */
enum mb_status mb_profile_load(const char *path, struct mb_profile *out);
/* malloc'd text of such a file, JSON, which YAML readers read too; NULL without memory. */
char *mb_profile_text(const struct mb_profile *p);
/* Speeds of c become those that were measured: its shares of peaks (cost.h) are taken back, as these are what
 * is reached. What was not measured stays. */
void mb_profile_apply(const struct mb_profile *p, struct mb_cluster *c);
#endif
