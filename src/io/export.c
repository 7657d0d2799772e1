/* moebatch export: rows of a results file as text, into a file, packed or not, or to standard output. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/export_rows.h"
#include "io/openai.h"
#include "io/results.h"
#include "io/tools.h"
#include "text/tokenizer.h"

#define PIECE ((size_t)1 << 20)
#define CHUNK ((size_t)256 << 10)

struct out {
    struct mb_publish *file; /* NULL: standard output */
    bool packed;
    z_stream z;
    unsigned char *buf; /* packed: CHUNK bytes */
    const volatile sig_atomic_t *stop;
};

static enum mb_status put_raw(struct out *o, const void *data, size_t n)
{
    if (o->file != NULL)
        return mb_publish_write(o->file, data, n);
    errno = 0;
    if (n == 0 || fwrite(data, 1, n, stdout) == n)
        return MB_OK;
    return mb_error(MB_IO, "standard output can't be written: %s", strerror(errno));
}

static enum mb_status put_packed(struct out *o, const void *data, size_t n, int flush)
{
    const unsigned char *from = data;

    do { /* zlib counts in 32 bits */
        size_t part = n < CHUNK ? n : CHUNK;
        o->z.next_in = (unsigned char *)(uintptr_t)from; /* zlib only reads there */
        o->z.avail_in = (uInt)part;
        from += part;
        n -= part;
        do {
            o->z.next_out = o->buf;
            o->z.avail_out = CHUNK;
            (void)deflate(&o->z, n == 0 ? flush : Z_NO_FLUSH);
            MB_TRY(put_raw(o, o->buf, CHUNK - o->z.avail_out));
        } while (o->z.avail_out == 0);
    } while (n > 0);
    return MB_OK;
}

static enum mb_status put(void *arg, const void *data, size_t n)
{
    struct out *o = arg;
    if (n == 0)
        return MB_OK;
    if (o->stop != NULL && *o->stop)
        return mb_error(MB_STOP, "asked to stop: nothing half written stays");
    return o->packed ? put_packed(o, data, n, Z_NO_FLUSH) : put_raw(o, data, n);
}

static enum mb_status open_out(const struct mb_export_options *e, struct out *o)
{
    size_t n = strlen(e->out);

    *o = (struct out){.packed = n > 3 && strcmp(e->out + n - 3, ".gz") == 0, .stop = e->stop};
    if (o->packed) {
        o->buf = malloc(CHUNK);
        if (o->buf == NULL || deflateInit2(&o->z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
            free(o->buf);
            o->packed = false;
            return mb_error(MB_NO_MEMORY, "no memory to pack %s", e->out);
        }
    }
    if (n == 0 || strcmp(e->out, "-") == 0)
        return MB_OK;
    return mb_publish_open(e->out, NULL, e->overwrite ? 0 : MB_PUBLISH_NEW, &o->file);
}

/* st: what became of the lines; without success there is no file. */
static enum mb_status close_out(struct out *o, enum mb_status st)
{
    if (o->packed) {
        if (st == MB_OK)
            st = put_packed(o, NULL, 0, Z_FINISH);
        deflateEnd(&o->z);
        free(o->buf);
    }
    if (o->file == NULL)
        return st;
    if (st == MB_OK)
        return mb_publish_commit(o->file, NULL, NULL);
    mb_publish_drop(o->file);
    return st;
}

static enum mb_status put_rows(struct mb_results *r, bool csv, struct out *o)
{
    struct mb_bytes text = {0};
    enum mb_status st = csv ? put(o, mb_export_csv_head, strlen(mb_export_csv_head)) : MB_OK;

    for (uint64_t i = 0; i < mb_results_info(r)->rows && st == MB_OK; i++) {
        struct mb_record rec;
        st = mb_results_row(r, i, &rec);
        if (st != MB_OK)
            break;
        st = csv ? mb_export_csv(&rec, &text) : mb_export_jsonl(&rec, &text);
        mb_record_fini(&rec);
        if (st == MB_OK && text.len >= PIECE) {
            st = put(o, text.data, text.len);
            text.len = 0;
        }
    }
    if (st == MB_OK)
        st = put(o, text.data, text.len);
    mb_bytes_fini(&text);
    return st;
}

/* The lines name the model as the job did, wherever its tokenizer is now. */
static enum mb_status put_openai(const struct mb_export_options *e, struct mb_results *r, struct out *o)
{
    struct mb_openai_options oo = {0};
    struct mb_tokenizer *tok = NULL;
    struct mb_lines to = {put, o};
    char *model = NULL;

    MB_TRY(mb_results_provenance(r, "model", &model));
    if (model == NULL)
        return mb_error(MB_INPUT, "%s does not say which model it is of", e->results);
    enum mb_status st = mb_tokenizer_load(e->model[0] != 0 ? e->model : model, &tok);
    if (st != MB_OK)
        mb_error(st,
                 "%s: OpenAI's lines hold the texts of tokens: -m says where the model's tokenizer is now",
                 e->results);
    oo.tok = tok;
    oo.model = model;
    if (st == MB_OK)
        st = mb_openai_rows(r, e->results, &oo, &to);
    mb_tokenizer_destroy(tok);
    free(model);
    return st;
}

static enum mb_status check_place(const struct mb_export_options *e)
{
    if (e->out[0] == 0 || strcmp(e->out, "-") == 0 || !mb_path_exists(e->out))
        return MB_OK;
    if (mb_same_file(e->results, e->out))
        return mb_error(MB_INPUT, "%s would replace the results themselves: give another -o", e->out);
    return e->overwrite ? MB_OK : mb_error(MB_INPUT, "%s exists; --overwrite replaces it", e->out);
}

enum mb_status mb_export(const struct mb_export_options *e)
{
    struct mb_results *r = NULL;
    struct out o;

    MB_TRY(check_place(e));
    MB_TRY(mb_results_open(e->results, &r));
    enum mb_status st = open_out(e, &o);
    if (st == MB_OK && strcmp(e->format, "openai") == 0)
        st = put_openai(e, r, &o);
    else if (st == MB_OK)
        st = put_rows(r, strcmp(e->format, "csv") == 0, &o);
    st = close_out(&o, st);
    mb_results_close(r);
    return st == MB_NO_SPACE ? MB_IO
                             : st; /* as a full device behind standard output is: exit 74 either way */
}
