/* What owner.json of the newest run says about a job: all that tools need to know of a job that is not running. Local. */
#ifndef MB_IO_JOB_INFO_H
#define MB_IO_JOB_INFO_H
#include "io/identity.h"
#include "io/shape.h"

struct mb_job_info {
    int32_t run;
    char *input;   /* path */
    char *command; /* that resumes the job */
    char *cwd;     /* where it was started */
    uint64_t input_lines, first_line, lines, requests, rows;
    struct mb_identity identity;
    struct mb_shape shape;
};
/* dir: RESULTS.h5.d. MB_INPUT (not logged) if there is no run; MB_CORRUPT if its owner.json makes no sense. */
enum mb_status mb_job_info_read(const char *dir, struct mb_job_info *out);
void mb_job_info_fini(struct mb_job_info *j);
#endif
