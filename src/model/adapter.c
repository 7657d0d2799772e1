#include "model/adapter.h"
#include "model/adapter_config.h"

#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/flat.h"
#include "model/identity.h"
#include "model/load.h"

#define PREFIX "base_model.model."
#define WHAT (0x6c6f7261ull << 32 | (uint64_t)sizeof(struct mb_lora))

/* Matrices an adapter may add to. */
static const bool adaptable[MB_T_COUNT] = {
    [MB_T_Q] = true,     [MB_T_K] = true,       [MB_T_V] = true,      [MB_T_O] = true,
    [MB_T_Q_A] = true,   [MB_T_Q_BPROJ] = true, [MB_T_KV_A] = true,   [MB_T_KV_B] = true,
    [MB_T_GATE] = true,  [MB_T_UP] = true,      [MB_T_DOWN] = true,   [MB_T_SH_GATE] = true,
    [MB_T_SH_UP] = true, [MB_T_SH_DOWN] = true, [MB_T_E_GATE] = true, [MB_T_E_UP] = true,
    [MB_T_E_DOWN] = true};

void mb_adapter_destroy(struct mb_adapter *a)
{
    if (a == NULL)
        return;
    for (int32_t i = 0; a->files.files != NULL && i < a->files.n_files; i++)
        free(a->files.files[i]);
    free(a->files.files);
    free(a->files.file_bytes);
    free(a->files.dir);
    free(a->loras);
    free(a);
}

/* ---------------------------------------------------------------- names */
/* Digits without leading zeros. */
static bool take_index(const char **p, int32_t *out)
{
    int32_t x = 0, digits = 0;

    for (; **p >= '0' && **p <= '9'; (*p)++, digits++) {
        if (digits == 7 || (digits == 1 && x == 0))
            return false;
        x = x * 10 + (**p - '0');
    }
    *out = x;
    return digits > 0;
}

/* Whether a module name of n bytes is the pattern's (n_pat bytes) with numbers for {l} and {e}. */
static bool match(const char *pat, size_t n_pat, const char *module, size_t n, int32_t *layer,
                  int32_t *expert)
{
    const char *p = module, *end = module + n;

    *layer = *expert = -1;
    for (size_t i = 0; i < n_pat; i++) {
        if (pat[i] == '{') {
            if (!take_index(&p, pat[i + 1] == 'l' ? layer : expert))
                return false;
            i += 2;
        } else if (p >= end || *p++ != pat[i]) {
            return false;
        }
    }
    return p == end;
}

/* The same over the alternatives of a pattern that name a weight. */
static bool match_any(const struct mb_pattern *p, const char *module, size_t n, int32_t *layer,
                      int32_t *expert)
{
    size_t suffix = strlen(".weight");

    if (p->layout != L_PLAIN || !adaptable[p->role])
        return false;
    for (const char *alt = p->name; *alt != 0;) {
        size_t len = strcspn(alt, "|");
        if (len > suffix && memcmp(alt + len - suffix, ".weight", suffix) == 0 &&
            match(alt, len - suffix, module, n, layer, expert))
            return true;
        alt += len + (alt[len] == '|');
    }
    return false;
}

/* Splits "base_model.model.MODULE.lora_A.weight". */
static bool split_name(const char *name, const char **module, size_t *n, bool *is_b)
{
    static const char *const ends[2] = {".lora_A.weight", ".lora_B.weight"};
    size_t len = strlen(name), prefix = strlen(PREFIX), suffix = strlen(ends[0]);

    if (len <= prefix + suffix || memcmp(name, PREFIX, prefix) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        if (strcmp(name + len - suffix, ends[i]) == 0) {
            *module = name + prefix;
            *n = len - prefix - suffix;
            *is_b = i == 1;
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- halves and pairs */
struct half {
    struct mb_tensor t;
    bool is_b;
    const struct mb_st_entry *e;
};

struct halves {
    const struct mb_model *m;
    const struct mb_arch *arch;
    struct mb_shards *s;
    int32_t rank;
    struct half *list;
    int64_t n, cap;
};

static enum mb_status push_half(struct halves *h, const struct half *x)
{
    if (h->n == h->cap) {
        int64_t cap = h->cap == 0 ? 64 : 2 * h->cap;
        void *p = realloc(h->list, (size_t)cap * sizeof *h->list);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for an adapter", h->s->dir);
        h->list = p;
        h->cap = cap;
    }
    h->list[h->n++] = *x;
    return MB_OK;
}

static enum mb_status add_half(struct halves *h, const struct mb_pattern *p, const struct mb_tensor *w,
                               bool is_b, const struct mb_st_entry *e)
{
    int64_t rows = p->shape[0] != D_END ? mb_dim_value(h->m, p->shape[0]) : w->n;
    int64_t want[2] = {is_b ? rows : h->rank, is_b ? h->rank : w->k},
            start = is_b ? mb_dim_value(h->m, p->start) : 0;
    const char *file = h->s->files[e->file], *name = mb_st_name(h->s, e);
    int storage = mb_st_storage(e->dtype);
    char ta[64], tb[256];

    mb_st_shape_text(want, 2, ta, sizeof ta);
    mb_st_shape_text(e->shape, e->rank, tb, sizeof tb);
    if (e->rank != 2 || e->shape[0] != want[0] || e->shape[1] != want[1])
        return mb_error(MB_MODEL, "%s/%s: %s: shape: expected %s from the model and r, found %s", h->s->dir,
                        file, name, ta, tb);
    if (storage < 0 || mb_storage_fp8((enum mb_storage)storage))
        return mb_error(MB_MODEL, "%s/%s: %s: dtype: expected F32, F16 or BF16, found %s", h->s->dir, file,
                        name, mb_st_dtype_name(e->dtype));
    struct half x = {.is_b = is_b, .e = e};
    memset(&x.t, 0, sizeof x.t);
    x.t.role = w->role;
    x.t.layer = w->layer;
    x.t.expert = w->expert;
    x.t.storage = (uint8_t)storage;
    x.t.file = (uint16_t)e->file;
    x.t.n = is_b ? w->n : want[0];
    x.t.k = x.t.stride_n = want[1];
    x.t.stride_k = 1;
    x.t.offset = e->offset + (uint64_t)(start * want[1] * mb_storage_size((enum mb_storage)storage));
    return push_half(h, &x);
}

/* ---------------------------------------------------------------- target_parameters: all experts of a layer in one pair */
/* PEFT names the module that holds the stacked matrices; where both are adapted, one pair lies a ".base_layer" deeper. Which is
 * which is told by the shapes. */
struct stack {
    int32_t layer;
    bool down;        /* else gate and up */
    bool interleaved; /* outputs of gate and up alternate */
};

static size_t without_base_layer(const char *module, size_t n)
{
    const char tail[] = ".base_layer";
    const size_t k = sizeof tail - 1;

    while (n > k && memcmp(module + n - k, tail, k) == 0)
        n -= k;
    return n;
}

/* Whether a module holds stacked experts. */
static bool match_stack(const struct mb_model *m, const char *module, size_t n, struct stack *out)
{
    static const char *const names[] = {"model.layers.{l}.mlp.experts", "model.layers.{l}.block_sparse_moe.experts",
                                        "model.layers.{l}.feed_forward.experts", "model.layers.{l}.block_sparse_moe.input_linear",
                                        "model.layers.{l}.block_sparse_moe.output_linear"};
    int32_t expert;

    n = without_base_layer(module, n);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (match(names[i], strlen(names[i]), module, n, &out->layer, &expert))
            return out->layer < m->layers && m->is_moe[out->layer];
    }
    return false;
}

/* The other half of a pair. */
static const struct mb_st_entry *sibling(const struct mb_shards *s, const char *name, bool is_b)
{
    char other[MB_ST_MAX_NAME + 1];
    size_t n = strlen(name), end = strlen("A.weight");

    if (n >= sizeof other || n < end)
        return NULL;
    memcpy(other, name, n + 1);
    other[n - end] = is_b ? 'A' : 'B';
    return mb_shards_find(s, other);
}

static enum mb_status push_part(struct halves *h, const struct mb_st_entry *e, enum mb_role role, const struct stack *s, int32_t expert,
                                bool is_b)
{
    const struct mb_tensor *w = mb_model_tensor(h->m, role, s->layer, expert);
    int64_t rows = h->rank, each = (int64_t)h->m->router.experts * rows, start = (int64_t)expert * rows * e->shape[1];
    struct half x = {.is_b = is_b, .e = e};

    if (w == NULL)
        return mb_error(MB_BUG, "layer %d: expert %d has no tensors", s->layer, expert);
    memset(&x.t, 0, sizeof x.t);
    x.t.role = (uint8_t)role;
    x.t.layer = s->layer;
    x.t.expert = expert;
    x.t.storage = (uint8_t)mb_st_storage(e->dtype);
    x.t.file = (uint16_t)e->file;
    x.t.n = is_b ? w->n : rows;
    x.t.k = is_b ? rows : w->k;
    x.t.stride_n = is_b ? each * (s->interleaved && role != MB_T_E_DOWN ? 2 : 1) : w->k;
    x.t.stride_k = is_b ? h->m->router.experts : 1;
    if (is_b) /* columns are rank by rank, in each all experts */
        start = expert + (role == MB_T_E_UP ? (s->interleaved ? 1 : w->n) * each : 0);
    x.t.offset = e->offset + (uint64_t)(start * mb_storage_size((enum mb_storage)x.t.storage));
    return push_half(h, &x);
}

static enum mb_status bind_stack(struct halves *h, const struct mb_st_entry *e, struct stack *s, bool is_b)
{
    const char *name = mb_st_name(h->s, e);
    const struct mb_st_entry *o = sibling(h->s, name, is_b), *a = is_b ? o : e, *b = is_b ? e : o;
    int64_t H = h->m->hidden, I = h->m->expert_ffn, each = (int64_t)h->m->router.experts * h->rank;
    int storage = mb_st_storage(e->dtype);
    char text[256];

    mb_st_shape_text(e->shape, e->rank, text, sizeof text);
    if (o == NULL)
        return mb_error(MB_MODEL, "%s/%s: %s: expected with its %s, found alone", h->s->dir, h->s->files[e->file], name,
                        is_b ? "lora_A" : "lora_B");
    bool two = a->rank == 2 && b->rank == 2 && a->shape[0] == each && b->shape[1] == each;
    s->down = two && a->shape[1] == I && b->shape[0] == H;
    if (!s->down && !(two && a->shape[1] == H && b->shape[0] == 2 * I))
        return mb_error(MB_MODEL, "%s/%s: %s: shape: expected factors of all experts' gate and up [%lld, %lld] and [%lld, %lld], or of "
                        "their down, from the model and r, found %s", h->s->dir, h->s->files[e->file], name, (long long)each,
                        (long long)H, (long long)(2 * I), (long long)each, text);
    if (storage < 0 || mb_storage_fp8((enum mb_storage)storage))
        return mb_error(MB_MODEL, "%s/%s: %s: dtype: expected F32, F16 or BF16, found %s", h->s->dir, h->s->files[e->file], name,
                        mb_st_dtype_name(e->dtype));
    for (int32_t x = 0; x < h->m->router.experts; x++) {
        MB_TRY(push_part(h, e, s->down ? MB_T_E_DOWN : MB_T_E_GATE, s, x, is_b));
        if (!s->down)
            MB_TRY(push_part(h, e, MB_T_E_UP, s, x, is_b));
    }
    return MB_OK;
}

/* Whether the architecture's own files interleave gate and up. */
static bool interleaves(const struct mb_arch *a)
{
    for (int t = 0; t < MB_ARCH_TABLES && a->tables[t] != NULL; t++) {
        for (const struct mb_pattern *p = a->tables[t]; p->name != NULL; p++) {
            if (p->role == MB_T_E_GATE && (p->layout & L_EVEN))
                return true;
        }
    }
    return false;
}

static enum mb_status bind_entry(struct halves *h, const struct mb_st_entry *e)
{
    const char *name = mb_st_name(h->s, e), *module;
    int32_t layer, expert;
    struct stack stack = {.interleaved = interleaves(h->arch)};
    bool is_b, found = false;
    size_t n;

    if (!split_name(name, &module, &n, &is_b))
        return mb_error(MB_MODEL,
                        "%s/%s: %s: expected a name of the form " PREFIX
                        "MODULE.lora_A.weight or lora_B.weight, found "
                        "another",
                        h->s->dir, h->s->files[e->file], name);
    if (match_stack(h->m, module, n, &stack))
        return bind_stack(h, e, &stack, is_b);
    for (int t = 0; t < MB_ARCH_TABLES && h->arch->tables[t] != NULL; t++) {
        for (const struct mb_pattern *p = h->arch->tables[t]; p->name != NULL; p++) {
            if (!match_any(p, module, n, &layer, &expert))
                continue;
            const struct mb_tensor *w = mb_model_tensor(h->m, (enum mb_role)p->role, layer, expert);
            if (w == NULL)
                continue;
            MB_TRY(add_half(h, p, w, is_b, e));
            found = true;
        }
    }
    if (!found)
        return mb_error(MB_MODEL,
                        "%s/%s: %s: expected a linear module of the model (attention, dense or shared FFN, "
                        "expert), found "
                        "%.*s",
                        h->s->dir, h->s->files[e->file], name, (int)n, module);
    return MB_OK;
}

static int by_place(const void *pa, const void *pb)
{
    const struct half *a = pa, *b = pb;
    if (a->t.role != b->t.role)
        return a->t.role < b->t.role ? -1 : 1;
    if (a->t.layer != b->t.layer)
        return a->t.layer < b->t.layer ? -1 : 1;
    if (a->t.expert != b->t.expert)
        return a->t.expert < b->t.expert ? -1 : 1;
    return a->is_b - b->is_b;
}

static enum mb_status pair_up(const struct halves *h, struct mb_adapter *a)
{
    a->loras = calloc((size_t)h->n / 2 + 1, sizeof *a->loras);
    if (a->loras == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for an adapter", h->s->dir);
    for (int64_t i = 0; i < h->n; i += 2) {
        const struct half *x = h->list + i, *y = i + 1 < h->n ? x + 1 : NULL;
        bool same =
            y != NULL && x->t.role == y->t.role && x->t.layer == y->t.layer && x->t.expert == y->t.expert;
        if (!same || x->is_b || !y->is_b)
            return mb_error(MB_MODEL, "%s/%s: %s: expected with its %s, found alone", h->s->dir,
                            h->s->files[x->e->file], mb_st_name(h->s, x->e), x->is_b ? "lora_A" : "lora_B");
        a->loras[a->n_loras++] = (struct mb_lora){x->t, y->t};
    }
    return MB_OK;
}

static enum mb_status bind_all(const struct mb_model *m, struct mb_shards *s, struct mb_adapter *a)
{
    struct halves h = {.m = m, .arch = mb_arch_named(m->arch), .s = s, .rank = a->rank};
    enum mb_status st = MB_OK;

    if (h.arch == NULL)
        return mb_error(MB_BUG, "no architecture %s", m->arch);
    if (s->n_entries == 0)
        return mb_error(MB_MODEL, "%s/%s: tensors: expected at least one, found none", s->dir, s->files[0]);
    for (int64_t i = 0; st == MB_OK && i < s->n_entries; i++)
        st = bind_entry(&h, s->entries + i);
    if (st == MB_OK) {
        qsort(h.list, (size_t)h.n, sizeof *h.list, by_place);
        st = pair_up(&h, a);
    }
    free(h.list);
    return st;
}

enum mb_status mb_adapter_open(const char *dir, const struct mb_model *m, struct mb_adapter **out)
{
    struct mb_shards s = {0};
    struct mb_adapter *a = calloc(1, sizeof *a);
    enum mb_status st = MB_OK;

    if (a != NULL)
        a->files.dir = strdup(dir);
    if (a == NULL || a->files.dir == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for an adapter");
    if (st == MB_OK)
        st = mb_adapter_settings(dir, a);
    if (st == MB_OK)
        st = mb_shards_open(dir, "adapter_model", &s);
    if (st == MB_OK)
        st = bind_all(m, &s, a);
    if (st == MB_OK) {
        a->files.n_files = s.n_files;
        a->files.files = s.files;
        a->files.file_bytes = s.file_bytes;
        s.files = NULL;
        s.file_bytes = NULL;
        *out = a;
    } else {
        mb_adapter_destroy(a);
    }
    mb_shards_fini(&s);
    return st;
}

static int find_cmp(const void *pk, const void *pe)
{
    const struct mb_tensor *k = pk, *t = &((const struct mb_lora *)pe)->a;
    if (k->role != t->role)
        return k->role < t->role ? -1 : 1;
    if (k->layer != t->layer)
        return k->layer < t->layer ? -1 : 1;
    return (k->expert > t->expert) - (k->expert < t->expert);
}

const struct mb_lora *mb_adapter_find(const struct mb_adapter *a, enum mb_role role, int32_t layer,
                                      int32_t expert)
{
    struct mb_tensor key = {.role = (uint8_t)role, .layer = layer, .expert = expert};
    return a->n_loras == 0 ? NULL : bsearch(&key, a->loras, (size_t)a->n_loras, sizeof *a->loras, find_cmp);
}

bool mb_role_of_expert(enum mb_role role)
{
    return role == MB_T_E_GATE || role == MB_T_E_UP || role == MB_T_E_DOWN;
}

bool mb_adapter_on_experts(const struct mb_adapter *a)
{
    for (int64_t i = 0; i < a->n_loras; i++) {
        if (mb_role_of_expert((enum mb_role)a->loras[i].a.role))
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- flat form */
enum mb_status mb_adapter_pack(const struct mb_adapter *a, struct mb_bytes *out)
{
    size_t head = 0;

    MB_TRY(mb_flat_begin(out, &head));
    MB_TRY(mb_bytes_put(out, &a->rank, sizeof a->rank));
    MB_TRY(mb_bytes_put(out, &a->scale, sizeof a->scale));
    MB_TRY(mb_bytes_put(out, &a->n_loras, sizeof a->n_loras));
    MB_TRY(mb_flat_put_files(out, &a->files));
    MB_TRY(mb_bytes_put(out, a->loras, (size_t)a->n_loras * sizeof *a->loras));
    mb_flat_end(out, head, WHAT);
    return MB_OK;
}

static enum mb_status take_adapter(struct mb_flat *f, struct mb_adapter *a)
{
    MB_TRY(mb_flat_take(f, &a->rank, sizeof a->rank));
    MB_TRY(mb_flat_take(f, &a->scale, sizeof a->scale));
    MB_TRY(mb_flat_take(f, &a->n_loras, sizeof a->n_loras));
    if (a->rank < 1 || a->rank > MB_MAX_RANK || a->n_loras < 0)
        return mb_flat_damaged("a size");
    MB_TRY(mb_flat_take_files(f, &a->files));
    MB_TRY(mb_flat_take_array(f, (uint64_t)a->n_loras, sizeof *a->loras, &a->loras));
    if (f->left != 0)
        return mb_flat_damaged("too long");
    for (int64_t i = 0; i < a->n_loras; i++) {
        MB_TRY(mb_flat_check_tensor(&a->files, &a->loras[i].a));
        MB_TRY(mb_flat_check_tensor(&a->files, &a->loras[i].b));
    }
    return MB_OK;
}

enum mb_status mb_adapter_unpack(const void *data, size_t n, struct mb_adapter **out)
{
    struct mb_flat f = {NULL, 0};

    MB_TRY(mb_flat_open(data, n, WHAT, &f));
    struct mb_adapter *a = calloc(1, sizeof *a);
    if (a == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for an adapter");
    enum mb_status st = take_adapter(&f, a);
    if (st == MB_OK)
        *out = a;
    else
        mb_adapter_destroy(a);
    return st;
}

enum mb_status mb_adapter_identity(const char *dir, struct mb_hash128 *out)
{
    return mb_identity_of(dir, "adapter_config.json", NULL, "adapter_model", out);
}
