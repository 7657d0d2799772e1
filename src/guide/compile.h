/* What the files share that make nodes of a JSON Schema. */
#ifndef MB_GUIDE_COMPILE_H
#define MB_GUIDE_COMPILE_H
#include "guide/schema.h"

/* Which node a part of the schema became. */
struct mb_made {
    const json_t *part;
    int32_t node;
};
struct mb_compiler {
    struct mb_schema *s;
    const json_t *root;
    bool legacy; /* up to draft 7: what stands beside $ref counts for nothing */
    struct mb_made *made;
    int32_t n_made; /* open addressing over MB_MADE_SLOTS */
    int32_t depth;
    char path[512]; /* JSON pointer to the part being read */
    char *err;
    size_t cap;
};
#define MB_MADE_SLOTS 65536

/* A node in the making. */
struct mb_part {
    const json_t *json;
    struct mb_node node;
    int32_t all[16]; /* joined beside allOf: what $ref, enum and const stand for */
    int32_t n_all;
};

/* compile.c */
enum mb_status mb_compile_bad(struct mb_compiler *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The node of a part of the schema; key, key2: what leads to it from the part being read, for messages (key2
 * NULL: nothing). */
enum mb_status mb_compile_part(struct mb_compiler *c, const json_t *v, const char *key, const char *key2,
                               int32_t *out);
struct mb_node mb_node_all(void); /* lets everything through */
enum mb_status mb_compile_node(struct mb_compiler *c, const struct mb_node *v, int32_t *out);
/* Room for n links. */
enum mb_status mb_compile_span(struct mb_compiler *c, int64_t n, struct mb_span *out);
enum mb_status mb_compile_name(struct mb_compiler *c, const char *s, size_t n, int32_t *out);
enum mb_status mb_compile_keep(struct mb_compiler *c, struct mb_dfa *d); /* takes it over, also on an error */
/* Its text must be one of d as well; takes d over. */
enum mb_status mb_compile_text(struct mb_compiler *c, struct mb_node *v, struct mb_dfa *d);
/* A list of at most n subschemas. */
enum mb_status mb_compile_list(struct mb_compiler *c, const json_t *v, const char *key, struct mb_span *out);
enum mb_status mb_compile_also(struct mb_compiler *c, struct mb_part *p, int32_t node);

/* compile_keys.c: reads keyword `name`; MB_REQUEST where it is none. */
enum mb_status mb_compile_key(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v);
/* compile_object.c */
enum mb_status mb_compile_properties(struct mb_compiler *c, struct mb_part *p, const char *name,
                                     const json_t *v);
enum mb_status mb_compile_patterns(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v);
enum mb_status mb_compile_required(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v);
enum mb_status mb_compile_dependent(struct mb_compiler *c, struct mb_part *p, const char *name,
                                    const json_t *v);
enum mb_status mb_compile_names(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v);
/* compile_values.c: enum and const */
enum mb_status mb_compile_values(struct mb_compiler *c, struct mb_part *p, const json_t *const *v, size_t n);
/* formats.c: the expression of a format; NULL: none. *checked false: the format is known and says nothing of
 * the text. longest: an expression that limits the length, or it is left alone. */
const char *mb_format_regex(const char *name, bool *checked, const char **longest);
#endif
