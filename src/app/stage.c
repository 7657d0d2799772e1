/* --stage DIR: what a node reads is copied to node-local storage once, by the lowest rank of the node; its
 * ranks then read there. Files that the node does not need are links to where they were. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "app/setup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "model/sums.h"

#define PIECE (8 << 20)

static bool is_expert(uint8_t role)
{
    return role >= MB_T_E_GATE && role <= MB_T_E_DOWN_B;
}

/* Index of a layer among the MoE layers. */
static int32_t moe_index(const struct mb_model *m, int32_t layer)
{
    int32_t n = 0;
    for (int32_t l = 0; l < layer; l++)
        n += m->is_moe[l];
    return n;
}

/* Whether a rank of this node holds an expert of MoE layer lm. */
static bool node_holds(const struct mb_app *a, int32_t node, int32_t lm, int32_t expert, int32_t layer)
{
    const struct mb_plan *p = a->plan;
    int32_t n;
    const int32_t *shard = mb_placement_holders(p->placement, lm, expert, &n);

    for (int32_t i = 0; i < p->layout.world; i++) {
        struct mb_place at;
        mb_layout_place(&p->layout, i, &at);
        bool here = p->node_of[i] == node && at.e >= 0;
        bool mine = p->layout.lane_scope ||
                    (layer >= p->first_layer[at.stage] && layer < p->first_layer[at.stage + 1]) ||
                    layer >= a->model->layers;
        for (int32_t k = 0; here && mine && k < n; k++) {
            if (shard[k] == at.e)
                return true;
        }
    }
    return false;
}

/* Whether a rank of this node reads this tensor: any rank may be the reader of a shared one, experts are
 * their owner's. */
static bool node_reads(const struct mb_app *a, const struct mb_tensor *t)
{
    const struct mb_placement *p = a->plan->placement;
    int32_t node = a->topo->node_of[a->rank], lm;

    if (!is_expert(t->role))
        return true;
    lm = moe_index(a->model, t->layer);
    if (lm >= p->moe_layers)
        return false; /* an MTP module that is not in use */
    return node_holds(a, node, lm, t->expert, t->layer);
}

static enum mb_status copy_bytes(int in, int out, const char *from, const char *to, uint64_t n)
{
    uint8_t *buf = malloc(PIECE);
    enum mb_status st = buf == NULL ? mb_error(MB_NO_MEMORY, "no memory to stage %s", from) : MB_OK;

    for (uint64_t at = 0; at < n && st == MB_OK; at += PIECE) {
        size_t piece = n - at < PIECE ? (size_t)(n - at) : PIECE;
        st = mb_pread_all(in, buf, piece, at, from, MB_MODEL);
        if (st == MB_OK)
            st = mb_pwrite_all(out, buf, piece, at, to);
    }
    free(buf);
    return st;
}

/* ---------------------------------------------------------------- what was copied */
#define STAMP 160
#define NOTE_MAX 1024

/* What changes whenever a file's contents do: times of change are the kernel's, nobody sets them. */
static enum mb_status stamp_of(const char *path, char out[STAMP])
{
    struct stat s;

    if (stat(path, &s) != 0)
        return mb_file_error(errno, path, "stat");
    snprintf(out, STAMP, "%llx:%llx:%lld:%lld.%09ld:%lld.%09ld", (unsigned long long)s.st_dev,
             (unsigned long long)s.st_ino, (long long)s.st_size, (long long)s.st_mtim.tv_sec,
             s.st_mtim.tv_nsec, (long long)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
    return MB_OK;
}

/* Beside each copy lies FILE.sum: the hash of its contents, and the stamps of source and copy when it was
 * made. */
struct note {
    char hash[33], source[STAMP], copy[STAMP];
};

static bool read_note(const char *path, struct note *out)
{
    struct mb_bytes b = {0};
    bool ok = mb_path_exists(path) && mb_file_read(path, NOTE_MAX, MB_INPUT, &b) == MB_OK &&
              mb_bytes_put(&b, "", 1) == MB_OK &&
              sscanf((const char *)b.data, "%32s %159s %159s", out->hash, out->source, out->copy) == 3;

    mb_bytes_fini(&b);
    return ok;
}

static enum mb_status write_note(const char *path, const struct note *n)
{
    char text[NOTE_MAX];
    int len = snprintf(text, sizeof text, "%s %s %s\n", n->hash, n->source, n->copy);

    return mb_publish_bytes(path, text, (size_t)len, 0);
}

static enum mb_status hash_of(const char *path, char hex[33])
{
    struct mb_hash128 h;
    uint64_t bytes;

    MB_TRY(mb_sums_path(path, &bytes, &h));
    mb_hash128_hex(h, hex);
    return MB_OK;
}

/* Whether the copy has the contents that the source has now. Files whose stamps are those of the note are not
 * read again. */
static enum mb_status is_current(const char *from, const char *to, const char *sum, bool *current)
{
    struct note then, now;

    *current = false;
    if (!read_note(sum, &then))
        return MB_OK;
    MB_TRY(stamp_of(from, now.source));
    MB_TRY(stamp_of(to, now.copy));
    bool same_source = strcmp(then.source, now.source) == 0, same_copy = strcmp(then.copy, now.copy) == 0;
    snprintf(now.hash, sizeof now.hash, "%s", then.hash);
    if (!same_copy) {
        MB_TRY(hash_of(to, now.hash));
        if (strcmp(now.hash, then.hash) != 0)
            return MB_OK;
    }
    if (!same_source) {
        MB_TRY(hash_of(from, now.hash));
        if (strcmp(now.hash, then.hash) != 0)
            return MB_OK;
    }
    *current = true;
    return same_source && same_copy ? MB_OK : write_note(sum, &now);
}

/* Once the copy has its name. */
static enum mb_status note_copy(const char *from, const char *to, const char *sum, const char *before)
{
    struct note n;

    MB_TRY(stamp_of(from, n.source));
    if (strcmp(n.source, before) != 0)
        return mb_error(MB_MODEL, "%s changed while it was staged; start again when it is complete", from);
    MB_TRY(hash_of(to, n.hash));
    MB_TRY(stamp_of(to, n.copy));
    return write_note(sum, &n);
}

/* A file that is there is whole: it takes its name when it is on the disk. */
static enum mb_status copy_file(const char *from, const char *to, uint64_t n)
{
    struct mb_publish *p = NULL;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return mb_file_error(errno, from, "open");
    enum mb_status st = mb_publish_open(to, NULL, 0, &p);
    if (st == MB_OK)
        st = copy_bytes(in, p->fd, from, p->tmp, n);
    close(in);
    if (st == MB_OK)
        return mb_publish_commit(p, NULL, NULL);
    mb_publish_drop(p);
    return st;
}

static enum mb_status copy_and_note(const char *from, const char *to, const char *sum, uint64_t n)
{
    char before[STAMP];

    MB_TRY(stamp_of(from, before));
    MB_TRY(copy_file(from, to, n));
    return note_copy(from, to, sum, before);
}

static enum mb_status stage_file(const struct mb_app *a, const char *dir, int32_t f, bool needed)
{
    const struct mb_model *m = a->model;
    char *from = mb_path_join(m->dir, m->files[f]), *to = mb_path_join(dir, m->files[f]), *sum = NULL,
         real[PATH_MAX];
    struct stat sb;
    enum mb_status st = MB_OK;

    if (from == NULL || to == NULL || asprintf(&sum, "%s.sum", to) < 0) {
        sum = NULL;
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    bool there = st == MB_OK && lstat(to, &sb) == 0;
    if (there && S_ISREG(sb.st_mode)) { /* not a link of an earlier job that did not need it */
        there = (uint64_t)sb.st_size == m->file_bytes[f];
        if (there)
            st = is_current(from, to, sum, &there);
    } else if (there && needed) {
        there = false;
    }
    if (st == MB_OK && !there && needed)
        st = copy_and_note(from, to, sum, m->file_bytes[f]);
    else if (st == MB_OK && !there)
        st = realpath(from, real) == NULL ? mb_file_error(errno, from, "realpath")
                                          : mb_publish_symlink(real, to);
    free(from);
    free(to);
    free(sum);
    return st;
}

static enum mb_status stage_files(const struct mb_app *a, const char *dir)
{
    const struct mb_model *m = a->model;
    bool *needed = calloc((size_t)m->n_files + 1, sizeof *needed);
    enum mb_status st =
        needed == NULL ? mb_error(MB_NO_MEMORY, "no memory to stage %d files", m->n_files) : mb_mkdirs(dir);

    for (int64_t i = 0; i < m->n_tensors && st == MB_OK; i++) {
        const struct mb_tensor *t = &m->tensors[i];
        bool reads = node_reads(a, t);
        needed[t->file] |= reads;
        if (t->scale_bytes > 0)
            needed[t->scale_file] |= reads;
    }
    for (int32_t f = 0; f < m->n_files && st == MB_OK; f++)
        st = stage_file(a, dir, f, needed[f]);
    free(needed);
    return st;
}

struct staging {
    const struct mb_app *a;
    const char *dir;
};

static enum mb_status stage_node(void *arg)
{
    const struct staging *s = arg;
    return stage_files(s->a, s->dir);
}

enum mb_status mb_app_stage(struct mb_app *a)
{
    const struct mb_topo *t = a->topo;
    char hex[33], *dir = NULL;
    bool leads = t->order[t->node_first[t->node_of[a->rank]]] == a->rank;
    enum mb_status st = MB_OK;

    if (a->conf->stage[0] == 0)
        return MB_OK;
    mb_hash128_hex(a->model_id, hex);
    if (asprintf(&dir, "%s/moebatch-%s", a->conf->stage, hex) < 0) {
        dir = NULL;
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    struct staging s = {a, dir};
    st = mb_comm_agree(a->comm, st, "staging");
    if (st == MB_OK)
        st = mb_comm_alone(a->comm, leads, stage_node, &s, "staging the model");
    if (st != MB_OK) {
        free(dir);
        return st;
    }
    free(a->model->dir);
    a->model->dir = dir;
    return MB_OK;
}
