#include "io/job_info.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "io/rundir.h"

void mb_job_info_fini(struct mb_job_info *j)
{
    free(j->input);
    free(j->command);
    free(j->cwd);
    mb_identity_fini(&j->identity);
    mb_shape_fini(&j->shape);
    memset(j, 0, sizeof *j);
}

static enum mb_status count(const json_t *v, const char *key, const char *dir, uint64_t *out)
{
    int64_t n = -1;
    enum mb_status st = mb_json_int(v, key, 0, INT64_MAX, dir, &n, NULL);
    if (st != MB_OK || n < 0)
        return st != MB_OK ? MB_CORRUPT : mb_error(MB_CORRUPT, "%s: owner.json has no %s", dir, key);
    *out = (uint64_t)n;
    return MB_OK;
}

static enum mb_status text(const json_t *v, const char *key, char **out)
{
    const char *s = json_string_value(json_object_get(v, key));
    *out = strdup(s == NULL ? "" : s);
    return *out == NULL ? mb_error(MB_NO_MEMORY, "no memory for owner.json") : MB_OK;
}

static enum mb_status parse(const json_t *v, const char *dir, struct mb_job_info *j)
{
    uint64_t run;
    MB_TRY(count(v, "run", dir, &run));
    j->run = (int32_t)run;
    MB_TRY(count(v, "input_lines", dir, &j->input_lines));
    MB_TRY(count(v, "first_line", dir, &j->first_line));
    MB_TRY(count(v, "lines", dir, &j->lines));
    MB_TRY(count(v, "requests", dir, &j->requests));
    MB_TRY(count(v, "rows", dir, &j->rows));
    if (j->first_line > j->input_lines || j->lines > j->input_lines - j->first_line)
        return mb_error(MB_CORRUPT, "%s: owner.json has more lines than its input", dir);
    MB_TRY(text(v, "input", &j->input));
    MB_TRY(text(v, "cwd", &j->cwd));
    j->command = mb_rundir_resume_command(v);
    if (j->command == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for owner.json");
    MB_TRY(mb_identity_parse(json_object_get(v, "identity"), dir, &j->identity));
    return mb_shape_parse(json_object_get(v, "shape"), dir, &j->shape);
}

enum mb_status mb_job_info_read(const char *dir, struct mb_job_info *out)
{
    json_t *v = NULL;
    struct mb_job_info j = {0};
    MB_TRY(mb_rundir_owner(dir, &v));
    enum mb_status st = parse(v, dir, &j);
    json_decref(v);
    if (st != MB_OK)
        mb_job_info_fini(&j);
    else
        *out = j;
    return st;
}
