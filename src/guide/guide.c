/* Guides by their texts: made once, kept while there is room. */
#include "guide/guide.h"

#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "guide/states.h"

#define KEPT 64         /* guides that nobody uses now */
#define LEAST (2 << 20) /* bytes of a guide's table at least */

struct mb_guide {
    struct mb_guides *all;
    struct mb_guide *newer, *older; /* by last use */
    enum mb_guide_kind kind;
    char *text;
    size_t n;
    int32_t users;
    char *err; /* not NULL: the text is no grammar */
    struct mb_schema *schema;
    struct mb_dfa *dfa;
    struct mb_acceptor *m;
    struct mb_guide_states *table;
};

struct mb_guides {
    struct mb_guides_options o;
    struct mb_bytes text; /* of the tokens, with at[vocab + 1] */
    int64_t *at;
    int32_t *ends;
    bool grown; /* the tree is there */
    struct mb_tree tree;
    struct mb_guide *newest, *oldest;
    int32_t n;
    uint64_t number;
    int64_t made, given;
};

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

enum mb_status mb_guides_create(const struct mb_guides_options *o, struct mb_guides **out)
{
    struct mb_guides *g = mb_zalloc(o->mem, MB_MEM_REQUESTS, 1, sizeof *g);

    if (g == NULL)
        return no_memory();
    g->o = *o;
    g->o.bytes = o->bytes > 0 ? o->bytes : MB_GUIDE_BYTES;
    g->ends = mb_alloc(o->mem, MB_MEM_REQUESTS, (size_t)o->n_ends + 1, sizeof *g->ends);
    if (g->ends == NULL) {
        mb_guides_destroy(g);
        return no_memory();
    }
    if (o->n_ends > 0)
        memcpy(g->ends, o->ends, sizeof *g->ends * (size_t)o->n_ends);
    *out = g;
    return MB_OK;
}

int32_t mb_guides_words(const struct mb_guides *g)
{
    return g->o.vocab / 32 + (g->o.vocab % 32 != 0);
}

void mb_guides_count(const struct mb_guides *g, int64_t *made, int64_t *given)
{
    *made = g->made;
    *given = g->given;
}

/* ---------------------------------------------------------------- the list of guides */

static void unlink_guide(struct mb_guide *u)
{
    struct mb_guides *g = u->all;

    if (u->newer != NULL)
        u->newer->older = u->older;
    else if (g->newest == u)
        g->newest = u->older;
    if (u->older != NULL)
        u->older->newer = u->newer;
    else if (g->oldest == u)
        g->oldest = u->newer;
    u->newer = u->older = NULL;
}

static void to_front(struct mb_guide *u)
{
    struct mb_guides *g = u->all;

    if (g->newest == u)
        return;
    unlink_guide(u);
    u->older = g->newest;
    if (g->newest != NULL)
        g->newest->newer = u;
    g->newest = u;
    if (g->oldest == NULL)
        g->oldest = u;
}

static void guide_destroy(struct mb_guide *u)
{
    mb_guide_states_destroy(u->table);
    mb_acceptor_destroy(u->m);
    mb_schema_destroy(u->schema);
    mb_dfa_destroy(u->dfa);
    mb_free(u->text);
    mb_free(u->err);
    mb_free(u);
}

void mb_guides_destroy(struct mb_guides *g)
{
    if (g == NULL)
        return;
    for (struct mb_guide *u = g->newest, *older; u != NULL; u = older) {
        older = u->older;
        guide_destroy(u);
    }
    mb_tree_fini(&g->tree);
    mb_bytes_fini(&g->text);
    mb_free(g->at);
    mb_free(g->ends);
    mb_free(g);
}

/* Guides that nobody uses leave when they are too many, masks when they take too much: the least recently
 * used first. */
static void tidy(struct mb_guides *g, const struct mb_guide *keep)
{
    int64_t bytes = 0;
    int32_t idle = 0;

    for (struct mb_guide *u = g->newest, *older; u != NULL; u = older) {
        older = u->older;
        idle += u->users == 0;
        if (u->users == 0 && idle > KEPT) {
            unlink_guide(u);
            guide_destroy(u);
            g->n--;
            continue;
        }
        if (u->table == NULL)
            continue;
        bytes += u->table->bytes;
        if (u != keep && bytes > g->o.bytes) {
            bytes -= u->table->bytes;
            mb_guide_states_forget(u->table);
        }
    }
}

static struct mb_guide *find(struct mb_guides *g, enum mb_guide_kind kind, const char *text, size_t n)
{
    for (struct mb_guide *u = g->newest; u != NULL; u = u->older)
        if (u->kind == kind && u->n == n && memcmp(u->text, text, n) == 0)
            return u;
    return NULL;
}

/* ---------------------------------------------------------------- texts */

static enum mb_status choice(struct mb_guide *u, char *err, size_t cap)
{
    json_t *list, *one;
    size_t i;
    int32_t n = 0;

    MB_TRY(mb_json_parse(u->text, u->n, "choices", MB_REQUEST, err, cap, &list));
    struct mb_dfa_word *w = mb_alloc(NULL, MB_MEM_REQUESTS, json_array_size(list) + 1, sizeof *w);
    enum mb_status st = w != NULL ? MB_OK : no_memory();
    json_array_foreach(list, i, one)
    {
        if (st == MB_OK && !json_is_string(one)) {
            snprintf(err, cap, "expected a list of strings, found %s", mb_json_type(one));
            st = MB_REQUEST;
        } else if (st == MB_OK) {
            w[n++] = (struct mb_dfa_word){json_string_value(one), json_string_length(one)};
        }
    }
    if (st == MB_OK && n == 0) {
        snprintf(err, cap, "expected a list of strings");
        st = MB_REQUEST;
    }
    if (st == MB_OK)
        st = mb_dfa_of_words(w, n, &u->dfa, err, cap);
    mb_free(w);
    json_decref(list);
    return st;
}

static enum mb_status schema(struct mb_guide *u, char *err, size_t cap)
{
    json_t *v;

    MB_TRY(mb_json_parse(u->text, u->n, "the schema", MB_REQUEST, err, cap, &v));
    enum mb_status st = mb_schema_create(v, &u->schema, err, cap);
    json_decref(v);
    return st;
}

static enum mb_status make(struct mb_guide *u, char *err, size_t cap)
{
    int64_t most = u->all->o.bytes / 3 > LEAST ? u->all->o.bytes / 3 : LEAST;
    enum mb_status st = u->kind == MB_GUIDE_REGEX ? mb_dfa_of_regex(u->text, u->n, false, &u->dfa, err, cap)
                        : u->kind == MB_GUIDE_CHOICE ? choice(u, err, cap)
                                                     : schema(u, err, cap);

    MB_TRY(st);
    if (u->dfa != NULL && u->dfa->states == 0) {
        snprintf(err, cap, "no text matches");
        return MB_REQUEST;
    }
    MB_TRY(mb_acceptor_create(u->schema, u->dfa, &u->m));
    return mb_guide_states_create(u->all->o.mem, u->m, most, &u->table);
}

/* Also what is no grammar is kept, with the reason. */
static enum mb_status guide_new(struct mb_guides *g, enum mb_guide_kind kind, const char *text, size_t n,
                                struct mb_guide **out)
{
    char err[400] = "";
    struct mb_guide *u = mb_zalloc(g->o.mem, MB_MEM_REQUESTS, 1, sizeof *u);

    if (u == NULL)
        return no_memory();
    *u = (struct mb_guide){
        .all = g, .kind = kind, .n = n, .text = mb_alloc(g->o.mem, MB_MEM_REQUESTS, n + 1, 1)};
    enum mb_status st = u->text != NULL ? MB_OK : no_memory();
    if (st == MB_OK) {
        memcpy(u->text, text, n);
        st = make(u, err, sizeof err);
    }
    if (st == MB_REQUEST) {
        u->err = mb_alloc(g->o.mem, MB_MEM_REQUESTS, strlen(err) + 1, 1);
        st = u->err != NULL ? MB_OK : no_memory();
        if (st == MB_OK)
            memcpy(u->err, err, strlen(err) + 1);
    }
    if (st != MB_OK) {
        guide_destroy(u);
        return st;
    }
    g->n++;
    *out = u;
    return MB_OK;
}

static enum mb_status grow_tree(struct mb_guides *g)
{
    if (g->grown)
        return MB_OK;
    g->text.len = 0;
    mb_free(g->at);
    g->at = mb_zalloc(g->o.mem, MB_MEM_REQUESTS, (size_t)g->o.vocab + 1, sizeof *g->at);
    if (g->at == NULL)
        return no_memory();
    MB_TRY(g->o.tokens(g->o.arg, g->o.vocab, &g->text, g->at));
    MB_TRY(mb_tree_create(g->o.mem, g->text.data, g->at, g->o.vocab, &g->tree));
    g->grown = true;
    return MB_OK;
}

enum mb_status mb_guide_open(struct mb_guides *g, enum mb_guide_kind kind, const char *text, size_t n,
                             struct mb_guide **out, char *err, size_t cap)
{
    struct mb_guide *u = find(g, kind, text, n);

    MB_TRY(grow_tree(g));
    if (u == NULL)
        MB_TRY(guide_new(g, kind, text, n, &u));
    to_front(u);
    if (u->err != NULL) {
        snprintf(err, cap, "%s", u->err);
        tidy(g, u);
        return MB_REQUEST;
    }
    u->users++;
    tidy(g, u);
    *out = u;
    return MB_OK;
}

void mb_guide_close(struct mb_guide *u)
{
    if (u != NULL)
        u->users--;
}

/* ---------------------------------------------------------------- an answer */

enum mb_status mb_guide_begin(struct mb_guide *u, struct mb_config *at)
{
    (void)mb_acceptor_start(u->m, at);
    return u->m->failed ? no_memory() : MB_OK;
}

enum mb_status mb_guide_take(struct mb_guide *u, struct mb_config *at, int32_t token, bool *ok)
{
    const struct mb_guides *g = u->all;

    *ok = token >= 0 && token < g->o.vocab && g->at[token + 1] > g->at[token] &&
          g->at[token + 1] - g->at[token] <= MB_TREE_DEPTH;
    for (int64_t i = *ok ? g->at[token] : 0; *ok && i < g->at[token + 1]; i++)
        *ok = mb_acceptor_step(u->m, at, g->text.data[i]);
    return u->m->failed ? no_memory() : MB_OK;
}

/* The ends' bits are set where the answer may end. */
static void set_ends(const struct mb_guides *g, struct mb_guide_states_mask *mask)
{
    for (int32_t i = 0; i < g->o.n_ends; i++) {
        int32_t id = g->ends[i];
        if (id < 0 || id >= g->o.vocab)
            continue;
        mask->tokens -= mask->bits[id / 32] >> id % 32 & 1;
        mask->bits[id / 32] &= ~(1u << id % 32);
        mask->bits[id / 32] |= mask->ends ? 1u << id % 32 : 0;
    }
}

enum mb_status mb_guide_next(struct mb_guide *u, const struct mb_config *at, struct mb_guide_mask *out)
{
    struct mb_guides *g = u->all;
    struct mb_guide_states_mask *mask;
    bool made;

    MB_TRY(mb_guide_states_mask(u->table, &g->tree, at, mb_guides_words(g), &made, &mask));
    g->given++;
    if (made) {
        mask->number = ++g->number;
        set_ends(g, mask);
        g->made++;
        to_front(u);
        tidy(g, u);
    }
    *out = (struct mb_guide_mask){mask->bits, mask->number, mask->tokens, mask->ends};
    return MB_OK;
}
