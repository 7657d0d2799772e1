/* What status.json tells of the last run. */
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/json.h"
#include "io/rundir.h"

#define STATUS_MAX ((uint64_t)1 << 20)

static void text(const json_t *v, const char *key, char *out, size_t cap)
{
    const char *s = json_string_value(json_object_get(v, key));

    if (s != NULL && strlen(s) < cap)
        strcpy(out, s);
}

static int64_t integer(const json_t *v, const char *key)
{
    return json_integer_value(json_object_get(v, key));
}

void mb_rundir_last(const char *dir, struct mb_run_last *out)
{
    struct mb_bytes raw = {0};
    char *path = mb_path_join(dir, "status.json");
    json_t *v = NULL;

    memset(out, 0, sizeof *out);
    if (path != NULL && mb_path_exists(path) && mb_file_read(path, STATUS_MAX, MB_INPUT, &raw) == MB_OK)
        v = json_loadb((const char *)raw.data, raw.len, 0, NULL);
    text(v, "failure", out->failure, sizeof out->failure);
    text(v, "state", out->state, sizeof out->state);
    text(v, "updated", out->updated, sizeof out->updated);
    out->from_rows = integer(v, "from_rows");
    out->from_tokens = integer(v, "from_tokens");
    out->errors = integer(v, "errors");
    out->committed = integer(v, "committed");
    out->tokens_per_second = json_number_value(json_object_get(v, "tokens_per_second"));
    out->seconds = json_number_value(json_object_get(v, "seconds"));
    json_decref(v);
    mb_bytes_fini(&raw);
    free(path);
}
