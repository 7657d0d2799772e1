/* --openai-output: the finished results once more, as result lines of OpenAI's batch service. Rank 0. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "app/job.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/openai.h"
#include "io/results.h"

/* Rows of one line of the input: choices follow each other and begin with 0. */
static enum mb_status next_group(struct mb_results *r, uint64_t rows, uint64_t *at, struct mb_record *rec, int32_t *n)
{
    *n = 0;
    while (*at < rows && *n < MB_MAX_CHOICES) {
        MB_TRY(mb_results_row(r, *at, &rec[*n]));
        if (*n > 0 && rec[*n].choice != *n) {
            mb_record_fini(&rec[*n]);
            return MB_OK;
        }
        ++*n;
        ++*at;
    }
    return MB_OK;
}

static enum mb_status write_lines(const struct mb_job_state *j, struct mb_results *r, int fd, const char *path)
{
    struct mb_openai_options o = {.tok = j->app.tok, .model = j->app.conf->model, .created = (int64_t)mb_utc()};
    struct mb_record rec[MB_MAX_CHOICES];
    struct mb_bytes out = {0};
    uint64_t rows = mb_results_info(r)->rows;
    enum mb_status st = MB_OK;

    for (uint64_t at = 0; at < rows && st == MB_OK;) {
        int32_t n;
        st = next_group(r, rows, &at, rec, &n);
        if (st == MB_OK)
            st = mb_openai_line(&o, rec, n, &out);
        for (int32_t i = 0; i < n; i++)
            mb_record_fini(&rec[i]);
        if (st == MB_OK && (out.len > (1 << 20) || at == rows)) {
            st = mb_write_all(fd, out.data, out.len, path);
            out.len = 0;
        }
    }
    mb_bytes_fini(&out);
    return st;
}

enum mb_status mb_job_openai(const struct mb_job_state *j)
{
    const char *path = j->app.conf->openai_output;
    struct mb_results *r = NULL;

    if (path[0] == 0)
        return MB_OK;
    MB_TRY(mb_results_open(j->app.conf->output, &r));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    enum mb_status st = fd < 0 ? mb_error(MB_IO, "--openai-output %s: %s", path, strerror(errno)) : write_lines(j, r, fd, path);
    if (fd >= 0 && close(fd) != 0 && st == MB_OK)
        st = mb_error(MB_IO, "--openai-output %s: %s", path, strerror(errno));
    mb_results_close(r);
    return st;
}
