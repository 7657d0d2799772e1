/* The YAML deck: one mapping of option keys to plain values, read and written by libyaml. */
#include "conf/value.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/fs.h"
#include "base/log.h"

#define DECK_MAX ((uint64_t)1 << 20)

/* --- reading --- */
struct deck {
    struct mb_filling *f;
    const char *path;
    yaml_parser_t parser;
    int *line_of; /* [mb_n_opts] line where a key was given, 0: not yet */
};

static enum mb_status next_event(struct deck *d, yaml_event_t *ev)
{
    if (yaml_parser_parse(&d->parser, ev))
        return MB_OK;
    return mb_error(MB_INPUT, "%s:%zu: %s", d->path, d->parser.problem_mark.line + 1,
                    d->parser.problem ? d->parser.problem : "this is no YAML");
}

/* Reads the next event, which must be of this type; what: for the message. The caller deletes it. */
static enum mb_status expect(struct deck *d, yaml_event_type_t type, yaml_event_t *ev, const char *what)
{
    MB_TRY(next_event(d, ev));
    if (ev->type == type)
        return MB_OK;
    size_t line = ev->start_mark.line + 1;
    yaml_event_delete(ev);
    return mb_error(MB_INPUT, "%s:%zu: %s", d->path, line, what);
}

static enum mb_status skip_to(struct deck *d, yaml_event_type_t type, const char *what)
{
    yaml_event_t ev;

    MB_TRY(expect(d, type, &ev, what));
    yaml_event_delete(&ev);
    return MB_OK;
}

static const char *scalar(const yaml_event_t *ev)
{
    return (const char *)ev->data.scalar.value;
}

/* The row of a key; unknown and repeated keys are refused. */
static enum mb_status find_key(struct deck *d, const yaml_event_t *key, const struct mb_opt **out)
{
    const char *name = scalar(key);
    int line = (int)key->start_mark.line + 1;
    const struct mb_opt *o =
        strlen(name) == key->data.scalar.length && strchr(name, '-') == NULL ? mb_opt_find(name) : NULL;
    char buf[MB_NAME_CAP];

    if (o == NULL) {
        const char *near = mb_opt_nearest(name);
        const struct mb_opt *n = near ? mb_opt_find(near) : NULL;
        return mb_error(MB_INPUT, "%s:%d: there is no key '%s'%s%s%s", d->path, line, name,
                        n ? "; did you mean '" : "", n ? mb_opt_key(n, buf) : "",
                        n ? "'?" : "; see moebatch run --help");
    }
    if (o->at == offsetof(struct mb_conf, config))
        return mb_error(MB_INPUT, "%s:%d: a deck can't name another deck (key 'config'); use -c", d->path,
                        line);
    if (d->line_of[o - mb_opts] != 0)
        return mb_error(MB_INPUT, "%s:%d: the key '%s' was already given in line %d; delete one", d->path,
                        line, name, d->line_of[o - mb_opts]);
    d->line_of[o - mb_opts] = line;
    *out = o;
    return MB_OK;
}

static enum mb_status read_value(struct deck *d, const struct mb_opt *o)
{
    char name[512], key[MB_NAME_CAP];
    yaml_event_t ev;
    enum mb_status st = MB_OK;

    MB_TRY(expect(d, YAML_SCALAR_EVENT, &ev,
                  "the value of a key must be one plain value, not a list, mapping or alias"));
    snprintf(name, sizeof name, "%s:%zu: %s", d->path, ev.start_mark.line + 1, mb_opt_key(o, key));
    const char *text = scalar(&ev);
    bool plain = ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (strlen(text) != ev.data.scalar.length)
        st = mb_error(MB_INPUT, "%s: the value contains a NUL character", name);
    else if (!(plain && (text[0] == '\0' || strcmp(text, "~") == 0 ||
                         strcmp(text, "null") == 0))) /* null: not given */
        st = mb_value_set(d->f, o, text, MB_FROM_DECK, name);
    yaml_event_delete(&ev);
    return st;
}

static enum mb_status read_mapping(struct deck *d)
{
    static const char *const what = "a deck is a mapping of keys to values (key: value)";
    yaml_event_t ev;

    for (;;) {
        const struct mb_opt *o = NULL;
        MB_TRY(next_event(d, &ev));
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            return MB_OK;
        }
        enum mb_status st = ev.type == YAML_SCALAR_EVENT
                                ? find_key(d, &ev, &o)
                                : mb_error(MB_INPUT, "%s:%zu: %s", d->path, ev.start_mark.line + 1, what);
        yaml_event_delete(&ev);
        if (st == MB_OK)
            st = read_value(d, o);
        if (st != MB_OK)
            return st;
    }
}

static enum mb_status read_stream(struct deck *d)
{
    yaml_event_t ev;

    MB_TRY(skip_to(d, YAML_STREAM_START_EVENT, "this is no YAML"));
    MB_TRY(next_event(d, &ev));
    bool empty = ev.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&ev);
    if (empty)
        return MB_OK;
    MB_TRY(skip_to(d, YAML_MAPPING_START_EVENT, "a deck is a mapping of keys to values (key: value)"));
    MB_TRY(read_mapping(d));
    MB_TRY(skip_to(d, YAML_DOCUMENT_END_EVENT, "a deck is one YAML document"));
    return skip_to(d, YAML_STREAM_END_EVENT, "a deck is one YAML document");
}

enum mb_status mb_deck_read(struct mb_filling *f, const char *path)
{
    struct mb_bytes text = {0};
    struct deck d = {.f = f, .path = path};
    enum mb_status st = mb_file_read(path, DECK_MAX, MB_INPUT, &text);

    if (st != MB_OK)
        goto free_text;
    d.line_of = calloc((size_t)mb_n_opts, sizeof *d.line_of);
    if (d.line_of == NULL || !yaml_parser_initialize(&d.parser)) {
        st = mb_error(MB_NO_MEMORY, "no memory for the deck %s", path);
        goto free_lines;
    }
    yaml_parser_set_input_string(&d.parser, text.len ? text.data : (const unsigned char *)"", text.len);
    st = read_stream(&d);
    yaml_parser_delete(&d.parser);
free_lines:
    free(d.line_of);
free_text:
    mb_bytes_fini(&text);
    return st;
}

/* --- writing --- */
static int append(void *arg, unsigned char *src, size_t n)
{
    return mb_bytes_put(arg, src, n) == MB_OK;
}

static bool emit_scalar(yaml_emitter_t *e, const char *text, bool quoted)
{
    yaml_event_t ev;
    yaml_scalar_style_t style = quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE;

    return yaml_scalar_event_initialize(&ev, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text),
                                        !quoted, quoted, style) &&
           yaml_emitter_emit(e, &ev);
}

/* Emits an event whose initialisation succeeded. */
static bool emit(yaml_emitter_t *e, int made, yaml_event_t *ev)
{
    return made && yaml_emitter_emit(e, ev);
}

static bool emit_options(yaml_emitter_t *e, const struct mb_conf *c)
{
    char key[MB_NAME_CAP], value[MB_VALUE_CAP];

    for (int i = 0; i < mb_n_opts; i++) {
        const struct mb_opt *o = &mb_opts[i];
        if (!(o->commands >> c->command & 1) || o->at == offsetof(struct mb_conf, config))
            continue;
        if (!emit_scalar(e, mb_opt_key(o, key), false) ||
            !emit_scalar(e, mb_value_text(c, o, value), o->type == MB_OPT_STRING))
            return false;
    }
    return true;
}

static bool emit_deck(yaml_emitter_t *e, const struct mb_conf *c)
{
    yaml_event_t ev;

    return emit(e, yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING), &ev) &&
           emit(e, yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1), &ev) &&
           emit(e, yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE), &ev) &&
           emit_options(e, c) && emit(e, yaml_mapping_end_event_initialize(&ev), &ev) &&
           emit(e, yaml_document_end_event_initialize(&ev, 1), &ev) &&
           emit(e, yaml_stream_end_event_initialize(&ev), &ev) && yaml_emitter_flush(e);
}

char *mb_conf_deck(const struct mb_conf *c)
{
    struct mb_bytes text = {0};
    yaml_emitter_t e;
    char *out = NULL;

    if (!yaml_emitter_initialize(&e))
        return NULL;
    yaml_emitter_set_output(&e, append, &text);
    yaml_emitter_set_unicode(&e, 1);
    yaml_emitter_set_width(&e, -1);
    if (emit_deck(&e, c) && mb_bytes_put(&text, "", 1) == MB_OK) {
        out = (char *)malloc(text.len);
        if (out != NULL)
            memcpy(out, text.data, text.len);
    }
    yaml_emitter_delete(&e);
    mb_bytes_fini(&text);
    return out;
}
