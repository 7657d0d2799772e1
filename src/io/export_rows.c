#include "io/export_rows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"

static enum mb_status put(struct mb_bytes *out, const char *s)
{
    return mb_bytes_put(out, s, strlen(s));
}

static enum mb_status put_int(struct mb_bytes *out, long long v)
{
    char buf[32];
    snprintf(buf, sizeof buf, "%lld", v);
    return put(out, buf);
}

/* digits: 9 for a float, 17 for a double. */
static enum mb_status put_real(struct mb_bytes *out, double v, int digits, const char *nan)
{
    char buf[40];
    if (isnan(v))
        return put(out, nan);
    snprintf(buf, sizeof buf, "%.*g", digits, isinf(v) ? copysign(9999.0, v) : v);
    MB_TRY(put(out, buf));
    return strpbrk(buf, ".e") == NULL ? put(out, ".0") : MB_OK;
}

/* ---------------------------------------------------------------- JSON lines */
static int append(const char *data, size_t n, void *out)
{
    return mb_bytes_put(out, data, n) == MB_OK ? 0 : -1;
}

static enum mb_status put_text(struct mb_bytes *out, const char *key, const struct mb_text *t)
{
    json_t *v = json_stringn(t->data != NULL ? t->data : "", t->len);
    enum mb_status st = put(out, key);
    if (st == MB_OK && (v == NULL || json_dump_callback(v, append, out, JSON_ENCODE_ANY) != 0))
        st = mb_error(MB_CORRUPT, "a text of the results is no UTF-8, or there is no memory for it");
    json_decref(v);
    return st;
}

static enum mb_status put_ids(struct mb_bytes *out, const char *key, const int32_t *v, int64_t n)
{
    MB_TRY(put(out, key));
    for (int64_t i = 0; i < n; i++) {
        MB_TRY(put(out, i == 0 ? "[" : ","));
        MB_TRY(put_int(out, v[i]));
    }
    return put(out, n == 0 ? "[]" : "]");
}

static enum mb_status put_floats(struct mb_bytes *out, const char *key, const float *v, int64_t n)
{
    bool any = false;
    for (int64_t i = 0; v != NULL && i < n; i++)
        any |= !isnan(v[i]);
    MB_TRY(put(out, key));
    if (!any)
        return put(out, "null");
    for (int64_t i = 0; i < n; i++) {
        MB_TRY(put(out, i == 0 ? "[" : ","));
        MB_TRY(put_real(out, (double)v[i], 9, "null"));
    }
    return put(out, "]");
}

/* [[...], ...], the candidates of each of the places: what is behind the last one is left out. */
static enum mb_status put_top(struct mb_bytes *out, const char *key, const struct mb_tops *of, int64_t places, bool ids)
{
    MB_TRY(put(out, key));
    if (of->n == 0)
        return put(out, "null");
    for (int64_t t = 0; t < places; t++) {
        const int32_t *id = of->ids + t * of->n;
        int32_t n = 0;
        while (n < of->n && id[n] >= 0)
            n++;
        MB_TRY(put(out, t == 0 ? "[" : ","));
        if (n == 0)
            MB_TRY(put(out, "[]"));
        else if (ids)
            MB_TRY(put_ids(out, "", id, n));
        else
            MB_TRY(put_floats(out, "", of->logprobs + t * of->n, n));
    }
    return put(out, places == 0 ? "[]" : "]");
}

static enum mb_status put_head(const struct mb_record *r, struct mb_bytes *out)
{
    MB_TRY(put(out, "{\"line\":"));
    MB_TRY(put_int(out, (long long)r->line));
    MB_TRY(put_text(out, ",\"id\":", &r->id));
    MB_TRY(put(out, ",\"choice\":"));
    MB_TRY(put_int(out, r->choice));
    MB_TRY(put(out, ",\"kind\":\""));
    MB_TRY(put(out, mb_kind_names[r->kind]));
    MB_TRY(put(out, "\",\"status\":\""));
    MB_TRY(put(out, mb_row_status_names[r->status]));
    MB_TRY(put(out, "\",\"finish_reason\":\""));
    MB_TRY(put(out, mb_finish_names[r->finish]));
    MB_TRY(put_text(out, "\",\"error\":", &r->error));
    MB_TRY(put_text(out, ",\"text\":", &r->text));
    MB_TRY(put(out, ",\"logprob_sum\":"));
    MB_TRY(put_real(out, r->logprob_sum, 17, "null"));
    return put(out, r->is_greedy ? ",\"is_greedy\":true" : ",\"is_greedy\":false");
}

static enum mb_status put_timing(const struct mb_record *r, struct mb_bytes *out)
{
    MB_TRY(put(out, ",\"timing\":{\"queue\":"));
    MB_TRY(put_real(out, r->timing.queue, 17, "null"));
    MB_TRY(put(out, ",\"ttft\":"));
    MB_TRY(put_real(out, r->timing.ttft, 17, "null"));
    MB_TRY(put(out, ",\"tpot\":"));
    MB_TRY(put_real(out, r->timing.tpot, 17, "null"));
    MB_TRY(put(out, ",\"end_to_end\":"));
    MB_TRY(put_real(out, r->timing.total, 17, "null"));
    return put(out, "}}\n");
}

enum mb_status mb_export_jsonl(const struct mb_record *r, struct mb_bytes *out)
{
    MB_TRY(put_head(r, out));
    MB_TRY(put_ids(out, ",\"prompt_ids\":", r->prompt_ids, r->n_prompt));
    MB_TRY(put_floats(out, ",\"prompt_logprobs\":", r->prompt_logprobs, r->n_prompt));
    MB_TRY(put_ids(out, ",\"output_ids\":", r->output_ids, r->n_output));
    MB_TRY(put_floats(out, ",\"output_logprobs\":", r->output_logprobs, r->n_output));
    struct mb_tops top = {r->top_n, r->top_ids, r->top_logprobs};
    MB_TRY(put_top(out, ",\"top_ids\":", &top, r->n_output, true));
    MB_TRY(put_top(out, ",\"top_logprobs\":", &top, r->n_output, false));
    if (r->prompt_top.n > 0) {
        MB_TRY(put_top(out, ",\"prompt_top_ids\":", &r->prompt_top, r->n_prompt, true));
        MB_TRY(put_top(out, ",\"prompt_top_logprobs\":", &r->prompt_top, r->n_prompt, false));
    }
    return put_timing(r, out);
}

/* ---------------------------------------------------------------- CSV */
const char mb_export_csv_head[] =
    "line,id,choice,kind,status,finish_reason,error,text,prompt_tokens,output_tokens,logprob_sum,"
    "is_greedy,queue,ttft,tpot,end_to_end\r\n";

/* A quoted field and the comma behind it. */
static enum mb_status put_quoted(struct mb_bytes *out, const struct mb_text *t)
{
    MB_TRY(put(out, "\""));
    for (size_t i = 0, j; i < t->len; i = j) {
        const char *q = memchr(t->data + i, '"', t->len - i);
        j = q == NULL ? t->len : (size_t)(q - t->data) + 1;
        MB_TRY(mb_bytes_put(out, t->data + i, j - i));
        if (q != NULL)
            MB_TRY(put(out, "\""));
    }
    return put(out, "\",");
}

static enum mb_status put_word(struct mb_bytes *out, const char *word)
{
    MB_TRY(put(out, word));
    return put(out, ",");
}

enum mb_status mb_export_csv(const struct mb_record *r, struct mb_bytes *out)
{
    const double times[4] = {r->timing.queue, r->timing.ttft, r->timing.tpot, r->timing.total};
    const int64_t counts[2] = {r->n_prompt, r->n_output};

    MB_TRY(put_int(out, (long long)r->line));
    MB_TRY(put(out, ","));
    MB_TRY(put_quoted(out, &r->id));
    MB_TRY(put_int(out, r->choice));
    MB_TRY(put(out, ","));
    MB_TRY(put_word(out, mb_kind_names[r->kind]));
    MB_TRY(put_word(out, mb_row_status_names[r->status]));
    MB_TRY(put_word(out, mb_finish_names[r->finish]));
    MB_TRY(put_quoted(out, &r->error));
    MB_TRY(put_quoted(out, &r->text));
    for (int i = 0; i < 2; i++) {
        MB_TRY(put_int(out, (long long)counts[i]));
        MB_TRY(put(out, ","));
    }
    MB_TRY(put_real(out, r->logprob_sum, 17, ""));
    MB_TRY(put(out, r->is_greedy ? ",true" : ",false"));
    for (int i = 0; i < 4; i++) {
        MB_TRY(put(out, ","));
        MB_TRY(put_real(out, times[i], 17, ""));
    }
    return put(out, "\r\n");
}
