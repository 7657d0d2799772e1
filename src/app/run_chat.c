/* Chat requests: messages through the model's template, for the parser. */
#include <stdlib.h>
#include <time.h>
#include "app/job.h"
#include "base/log.h"

static enum mb_status render(void *arg, const struct mb_chat_ask *ask, struct mb_bytes *text, char *err, size_t cap)
{
    const struct mb_job_state *j = arg;
    struct mb_chat_ask timed = *ask;
    timed.now = j->start.chat_time;
    return mb_chat_render(j->chat, &timed, err, cap, text);
}

enum mb_status mb_job_chat(struct mb_job_state *j)
{
    if (j->app.tok == NULL)
        return MB_OK;
    MB_TRY(mb_chat_load(j->app.conf->model, &j->chat));
    if (j->chat != NULL) {
        j->parse.chat = render;
        j->parse.chat_arg = j;
    }
    return MB_OK;
}

int64_t mb_job_first_start(const struct mb_rundir *d)
{
    char *text = mb_rundir_incarnations(d->dir);
    json_t *list = text != NULL ? json_loads(text, 0, NULL) : NULL;
    const char *when = json_string_value(json_object_get(json_array_get(list, 0), "started"));
    struct tm tm = {0};
    int64_t t = 0;

    if (when != NULL && strptime(when, "%Y-%m-%dT%H:%M:%S", &tm) != NULL)
        t = (int64_t)timegm(&tm);
    json_decref(list);
    free(text);
    return t;
}
