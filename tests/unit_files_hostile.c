/* Weight files and indexes that must be refused: each with the status, and a message that names file, tensor, expected and
 * found. */
#include "base/fs.h"
#include "refuse.h"

/* ---------------------------------------------------------------- one safetensors file */
#define T_NORM "model.norm.weight"
#define T_HEAD "lm_head.weight"
#define T_Q "model.layers.0.self_attn.q_proj.weight"
static const struct header_case {
    const char *tensor, *field, *json; /* field NULL: the whole entry; json "-": removed */
    int data;                          /* bytes of data more or less */
    const char *named, *expected, *found;
} header_cases[] = {
    {T_Q, "dtype", "\"F33\"", 0, T_Q ": dtype", "expected a safetensors type", "found \"F33\""},
    {T_Q, "dtype", "7", 0, T_Q ": dtype", "expected a string", "found an integer"},
    {T_Q, "dtype", "-", 0, T_Q ": dtype", "expected a string", "found nothing"},
    {T_Q, "dtype", "\"I32\"", 0, T_Q ": dtype", "expected F32, F16, BF16, F8_E4M3 or F8_E5M2", "found I32"},
    {T_Q, "dtype", "\"F64\"", 0, T_Q ": data_offsets", "expected 128 bytes for [4, 4] of F64", "found 64"},
    {T_Q, "dtype", "\"BF16\"", 0, T_Q ": data_offsets", "expected 32 bytes for [4, 4] of BF16", "found 64"},
    {T_Q, "shape", "-", 0, T_Q ": shape", "expected a list", "found nothing"},
    {T_Q, "shape", "16", 0, T_Q ": shape", "expected a list", "found an integer"},
    {T_Q, "shape", "[4, \"4\"]", 0, T_Q ": shape", "expected integers", "found a string"},
    {T_Q, "shape", "[4, 4.0]", 0, T_Q ": shape", "expected integers", "found a number"},
    {T_Q, "shape", "[-4, -4]", 0, T_Q ": shape", "expected sizes of 0 or more", "found -4"},
    {T_Q, "shape", "[4, 5]", 0, T_Q ": data_offsets", "expected 80 bytes for [4, 5] of F32", "found 64"},
    {T_Q, "shape", "[16]", 0, T_Q ": shape", "expected [4, 4]", "found [16]"},
    {T_Q, "shape", "[2, 8]", 0, T_Q ": shape", "expected [4, 4]", "found [2, 8]"},
    {T_Q, "shape", "[4, 4, 1]", 0, T_Q ": shape", "expected [4, 4]", "found [4, 4, 1]"},
    {T_NORM, "shape", "[1, 4]", 0, T_NORM ": shape", "expected [4]", "found [1, 4]"},
    {T_Q, "shape", "[4294967296, 4294967296]", 0, T_Q ": shape", "expected a size that fits 64 bits", "found [4294967296, 4294967296]"},
    {T_Q, "shape", "[9223372036854775807, 4]", 0, T_Q ": shape", "expected a size that fits 64 bits", "found [9223372036854775807, 4]"},
    {T_Q, "shape", "[1,1,1,1,1,1,1,1,16]", 0, T_Q ": shape", "expected at most 8 dimensions", "found 9"},
    {T_Q, "data_offsets", "-", 0, T_Q ": data_offsets", "expected a list of two integers", "found nothing"},
    {T_Q, "data_offsets", "[1]", 0, T_Q ": data_offsets", "expected a list of two integers", "found another list"},
    {T_Q, "data_offsets", "[0.5, 64]", 0, T_Q ": data_offsets", "expected a list of two integers", "found another list"},
    {T_Q, "data_offsets", "[-64, 0]", 0, T_Q ": data_offsets", "expected begin <= end", "found [-64, 0]"},
    {T_Q, "data_offsets", "[272, 208]", 0, T_Q ": data_offsets", "expected begin <= end", "found [272, 208]"},
    {T_Q, "data_offsets", "[1000000, 1000064]", 0, T_Q ": data_offsets", "expected begin <= end", "found [1000000, 1000064]"},
    {T_Q, "data_offsets", "[0, 9223372036854775807]", 0, T_Q ": data_offsets", "expected begin <= end", "found [0, 9223372036854775807]"},
    {T_NORM, "data_offsets", "[0, 16]", 0, "data_offsets", "no holes, no overlaps", "found"},
    {T_NORM, "data_offsets", "[84, 100]", 0, "data_offsets", "expected to begin at", "found 84"},
    {T_NORM, NULL, "-", 0, T_HEAD ": data_offsets", "expected to begin at 80", "found 96"},
    {T_NORM, NULL, "[]", 0, T_NORM, "expected an object", "found a list"},
    {"extra", NULL, "{\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}", 0, "data_offsets", "no holes, no overlaps", "found"},
    {"", NULL, "{\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 0]}", 0, "tensor name", "expected 1 to 1024 bytes", "found 0"},
    {"__metadata__", NULL, "[]", 0, "__metadata__", "expected an object", "found a list"},
    {"__metadata__", NULL, "{\"format\": 1}", 0, "__metadata__: format", "expected a string", "found an integer"},
    {NULL, NULL, NULL, 4, "size", "expected", "found"},
    {NULL, NULL, NULL, 1, "size", "expected", "found"},
    {NULL, NULL, NULL, -4, "experts.1.w3.weight: data_offsets", "expected begin <= end", "found"},
};

static void header_case(const struct header_case *c)
{
    char dir[256], label[256];
    uint64_t bytes;
    json_t *h = tiny_header(0, 0, &bytes), *config = tiny_config();

    snprintf(label, sizeof label, "%s %s %s %+d", c->tensor, c->field, c->json, c->data);
    dir_make(dir);
    dir_json(dir, "config.json", config);
    json_decref(config);
    if (c->tensor != NULL && c->field != NULL) {
        edit(json_object_get(h, c->tensor), c->field, c->json);
    } else if (c->tensor != NULL && strcmp(c->json, "-") == 0) {
        json_object_del(h, c->tensor);
    } else if (c->tensor != NULL) {
        json_object_set_new(h, c->tensor, json_loads(c->json, 0, NULL));
    }
    dir_safetensors_json(dir, "model.safetensors", h, bytes + (uint64_t)c->data);
    refuse(dir, label, (const char *const[4]){"/model.safetensors", c->named, c->expected, c->found});
    dir_remove(dir);
}

/* A file given as header text and header length. */
static void raw_case(const char *header, int64_t length, uint64_t bytes, const char *expected, const char *found)
{
    char dir[256];
    json_t *config = tiny_config();

    dir_make(dir);
    dir_json(dir, "config.json", config);
    json_decref(config);
    dir_safetensors(dir, "model.safetensors", header, length, bytes);
    refuse(dir, header, (const char *const[4]){"/model.safetensors", expected, found, NULL});
    dir_remove(dir);
}

static void long_name_case(void)
{
    char dir[256], name[1100];
    uint64_t bytes;
    json_t *h = tiny_header(0, 0, &bytes), *config = tiny_config();

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    json_object_set_new(h, name, json_loads("{\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 0]}", 0, NULL));
    dir_make(dir);
    dir_json(dir, "config.json", config);
    json_decref(config);
    dir_safetensors_json(dir, "model.safetensors", h, bytes);
    refuse(dir, "long name", (const char *const[4]){"model.safetensors", "expected 1 to 1024 bytes", "found 1099", NULL});
    dir_remove(dir);
}

static const char *const foreign[][2] = {
    {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4865522496\n", "a Git-LFS pointer"},
    {"GGUF\3 and so on", "a GGUF file"},
    {"PK\3\4 archive", "a PyTorch checkpoint"},
    {"\x80\2}q\1 and so on", "a Python pickle"},
    {"<!DOCTYPE html><html>", "a web page"},
    {"\x89HDF\r\n\x1a\n and so on", "an HDF5 file"}};

static void unlink_in(const char *dir, const char *name)
{
    char *path = mb_path_join(dir, name);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void test_header(void **state)
{
    char dir[256];
    json_t *config = tiny_config();

    (void)state;
    failures = 0;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++)
        header_case(header_cases + i);
    raw_case("{}", 1, 0, "header length: expected 2 to", "found 1");
    raw_case("{}", 0, 0, "header length: expected 2 to", "found 0");
    raw_case("{}", 100000001, 0, "header length: expected 2 to 100000000", "found 100000001");
    raw_case("{}", INT64_MAX, 0, "header length: expected 2 to 100000000", "found 9223372036854775807");
    raw_case("{}", 3, 0, "header length: expected at most the 2 bytes", "found 3");
    raw_case("{}", -1, 8, "size: expected 0 data bytes", "found 8");
    raw_case("[]", -1, 0, "header: expected {", "found byte 0x5b");
    raw_case(" {}", -1, 0, "header: expected {", "found byte 0x20");
    raw_case("{\"a\": ", -1, 0, "not JSON", "line 1");
    raw_case("{} x", -1, 0, "not JSON", "line 1");
    raw_case("{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}, \"a\": {\"dtype\": \"F32\", \"shape\": [1], "
             "\"data_offsets\": [4, 8]}}", -1, 8, "not JSON", "duplicate");
    raw_case("{\"a\": {\"dtype\": \"F4\", \"shape\": [3], \"data_offsets\": [0, 1]}}", -1, 4, "a: data_offsets: expected 1 bytes", "found 1");
    long_name_case();
    dir_make(dir);
    dir_json(dir, "config.json", config);
    refuse(dir, "no weights", (const char *const[4]){"expected model.safetensors or model.safetensors.index.json", "found neither", NULL, NULL});
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        dir_write(dir, "model.safetensors", foreign[i][0], strlen(foreign[i][0]));
        refuse(dir, foreign[i][1], (const char *const[4]){"model.safetensors", "expected a safetensors file", foreign[i][1], NULL});
    }
    unlink_in(dir, "model.safetensors");
    dir_write(dir, "model-Q4_K_M.gguf", "GGUF", 4);
    refuse(dir, "GGUF beside", (const char *const[4]){"found neither", "model-Q4_K_M.gguf", "a GGUF file", NULL});
    dir_write(dir, "golden.h5", "x", 1);
    dir_write(dir, "model-00001-of-00002.safetensors", "x", 1);
    refuse(dir, "index missing", (const char *const[4]){"found neither", "model-00001-of-00002.safetensors", "an index is missing", NULL});
    unlink_in(dir, "model-00001-of-00002.safetensors");
    unlink_in(dir, "model-Q4_K_M.gguf");
    refuse(dir, "some HDF5 file", (const char *const[4]){"found neither\n", NULL, NULL, NULL});
    dir_write(dir, "tf_model.h5", "x", 1);
    refuse(dir, "TensorFlow", (const char *const[4]){"found neither", "tf_model.h5", "a TensorFlow checkpoint", NULL});
    dir_write(dir, "adapter_model.safetensors", "x", 1);
    refuse(dir, "an adapter", (const char *const[4]){"found neither", "adapter_model.safetensors", "a LoRA adapter", NULL});
    dir_write(dir, "config.json", foreign[0][0], strlen(foreign[0][0]));
    refuse(dir, "config a pointer", (const char *const[4]){"config.json", "a Git-LFS pointer", NULL, NULL});
    dir_json(dir, "config.json", config);
    dir_write(dir, "model.safetensors", "1234567", 7);
    refuse(dir, "seven bytes", (const char *const[4]){"model.safetensors", "expected at least 8 bytes", "found 7", NULL});
    dir_write(dir, "model.safetensors", "", 0);
    refuse(dir, "empty file", (const char *const[4]){"model.safetensors", "expected at least 8 bytes", "found 0", NULL});
    dir_remove(dir);
    json_decref(config);
    assert_int_equal(failures, 0);
}

/* Every tensor of the tiny model missing in turn; and the unharmed model loads. */
static void test_missing(void **state)
{
    char dir[256];
    uint64_t bytes;
    struct mb_model *m = NULL;

    (void)state;
    failures = 0;
    for (size_t i = 0; i <= tiny_tensors(); i++) {
        json_t *h = tiny_header(0, 0, &bytes), *config = tiny_config();
        dir_make(dir);
        dir_json(dir, "config.json", config);
        json_decref(config);
        if (i < tiny_tensors()) {
            json_t *e = json_object_get(h, tiny_name(i));
            json_object_set(h, "some.other.name", e);
            json_object_del(h, tiny_name(i));
        }
        dir_safetensors_json(dir, "model.safetensors", h, bytes);
        if (i < tiny_tensors())
            refuse(dir, tiny_name(i), (const char *const[4]){tiny_name(i), "expected this tensor", "found none", NULL});
        else
            assert_int_equal(mb_model_open(dir, 0, &m), MB_OK);
        dir_remove(dir);
    }
    mb_model_destroy(m);
    assert_int_equal(failures, 0);
}

/* ---------------------------------------------------------------- shards */
#define HALF 8
/* The tiny model in two files a and b with a right index. */
static json_t *make_shards(const char *dir)
{
    uint64_t bytes;
    json_t *config = tiny_config(), *map = json_object();

    dir_json(dir, "config.json", config);
    json_decref(config);
    json_t *h = tiny_header(0, HALF, &bytes);
    dir_safetensors_json(dir, "a.safetensors", h, bytes);
    h = tiny_header(HALF, 0, &bytes);
    dir_safetensors_json(dir, "b.safetensors", h, bytes);
    for (size_t i = 0; i < tiny_tensors(); i++)
        json_object_set_new(map, tiny_name(i), json_string(i < HALF ? "a.safetensors" : "b.safetensors"));
    return json_pack("{s:{s:i},s:o}", "metadata", "total_size", 1, "weight_map", map);
}

static void index_case(const char *key, const char *json, const char *named, const char *expected, const char *found)
{
    char dir[256];

    dir_make(dir);
    json_t *index = make_shards(dir), *map = json_object_get(index, "weight_map");
    if (json == NULL)
        json_object_del(map, key);
    else
        json_object_set_new(map, key, json_loads(json, JSON_DECODE_ANY, NULL));
    dir_json(dir, "model.safetensors.index.json", index);
    json_decref(index);
    refuse(dir, json != NULL ? json : key, (const char *const[4]){"index", named, expected, found});
    dir_remove(dir);
}

static void index_text_case(const char *text, const char *expected, const char *found)
{
    char dir[256];

    dir_make(dir);
    json_decref(make_shards(dir));
    dir_text(dir, "model.safetensors.index.json", text);
    refuse(dir, text, (const char *const[4]){"model.safetensors.index.json", expected, found, NULL});
    dir_remove(dir);
}

static void shard_file_case(const char *label, void (*damage)(const char *dir), const char *a, const char *b, const char *c)
{
    char dir[256];

    dir_make(dir);
    json_t *index = make_shards(dir);
    dir_json(dir, "model.safetensors.index.json", index);
    json_decref(index);
    damage(dir);
    refuse(dir, label, (const char *const[4]){a, b, c, NULL});
    dir_remove(dir);
}

static void remove_b(const char *dir)
{
    char *path = mb_path_join(dir, "b.safetensors");
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void truncate_b(const char *dir)
{
    char *path = mb_path_join(dir, "b.safetensors");
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(truncate(path, sb.st_size - 4), 0);
    free(path);
}

static void truncate_b_header(const char *dir)
{
    char *path = mb_path_join(dir, "b.safetensors");
    assert_int_equal(truncate(path, 100), 0);
    free(path);
}

static void b_is_a_directory(const char *dir)
{
    char *path = mb_path_join(dir, "b.safetensors");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    free(path);
}

static void b_has_all(const char *dir)
{
    uint64_t bytes;
    json_t *h = tiny_header(0, 0, &bytes);
    dir_safetensors_json(dir, "b.safetensors", h, bytes);
}

static void b_has_more(const char *dir)
{
    uint64_t bytes;
    json_t *h = tiny_header(HALF, 0, &bytes);
    json_object_set_new(h, "unlisted", json_pack("{s:s,s:[i],s:[II]}", "dtype", "F32", "shape", 1, "data_offsets", (json_int_t)bytes,
                                                 (json_int_t)bytes + 4));
    dir_safetensors_json(dir, "b.safetensors", h, bytes + 4);
}

/* Files whose index decides: the model loads, each tensor from the file that the index names. */
static void index_decides(const char *label, void (*add)(const char *dir))
{
    char dir[256];
    struct mb_model *m = NULL;

    dir_make(dir);
    json_t *index = make_shards(dir);
    dir_json(dir, "model.safetensors.index.json", index);
    add(dir);
    if (mb_model_open(dir, 0, &m) != MB_OK)
        fail_msg("%s: not loaded", label);
    const struct mb_tensor *t = mb_model_tensor(m, MB_T_FINAL_NORM, -1, -1);
    assert_string_equal(m->files[t->file], json_string_value(json_object_get(json_object_get(index, "weight_map"), T_NORM)));
    mb_model_destroy(m);
    json_decref(index);
    dir_remove(dir);
}

static void single_too(const char *dir)
{
    uint64_t bytes;
    json_t *h = tiny_header(0, 0, &bytes);
    dir_safetensors_json(dir, "model.safetensors", h, bytes);
}

static void test_shards(void **state)
{
    char dir[256];
    struct mb_model *m = NULL;

    (void)state;
    failures = 0;
    dir_make(dir);
    json_t *index = make_shards(dir);
    dir_json(dir, "model.safetensors.index.json", index);
    json_decref(index);
    assert_int_equal(mb_model_open(dir, 0, &m), MB_OK);
    assert_int_equal(m->n_files, 2);
    mb_model_destroy(m);
    dir_remove(dir);
    index_case(T_NORM, "\"../a.safetensors\"", T_NORM, "expected the name of a file in the same directory", "found \"../a.safetensors\"");
    index_case(T_NORM, "\"/etc/passwd\"", T_NORM, "expected the name of a file in the same directory", "found \"/etc/passwd\"");
    index_case(T_NORM, "\"..\"", T_NORM, "expected the name of a file in the same directory", "found \"..\"");
    index_case(T_NORM, "\"sub/a.safetensors\"", T_NORM, "expected the name of a file in the same directory", "found \"sub/a.safetensors\"");
    index_case(T_NORM, "\"sub\\\\a.safetensors\"", T_NORM, "expected the name of a file", "found \"sub\\a.safetensors\"");
    index_case(T_NORM, "\"\"", T_NORM, "expected a .safetensors file", "found \"\"");
    index_case(T_NORM, "\"a.bin\"", T_NORM, "expected a .safetensors file", "found \"a.bin\"");
    index_case(T_NORM, "\".safetensors\"", T_NORM, "expected the name of a file", "found \".safetensors\"");
    index_case(T_NORM, "7", T_NORM, "expected a file name", "found an integer");
    index_case(T_NORM, "null", T_NORM, "expected a file name", "found null");
    index_case(T_NORM, "\"b.safetensors\"", T_NORM, "expected in b.safetensors", "found in no file");
    index_case(T_NORM, NULL, T_NORM, "expected this tensor", "found none of that name");
    index_case("invented", "\"a.safetensors\"", "invented", "expected in a.safetensors", "found in no file");
    index_text_case("{}", "weight_map: expected an object", "found nothing");
    index_text_case("{\"weight_map\": []}", "weight_map: expected an object", "found a list");
    index_text_case("{\"weight_map\": {}}", "weight_map: expected at least one tensor", "found none");
    index_text_case("{\"weight_map\": {\"a\": \"a.safetensors\", \"a\": \"b.safetensors\"}}", "not JSON", "duplicate");
    index_text_case("{\"weight_map\": ", "not JSON", "line 1");
    index_text_case("[1]", "weight_map: expected an object", "found nothing");
    shard_file_case("b removed", remove_b, "b.safetensors", "expected a safetensors file", "No such file");
    shard_file_case("b cut", truncate_b, "b.safetensors", "expected begin <= end", "found");
    shard_file_case("b cut in header", truncate_b_header, "b.safetensors", "header length: expected at most the 92 bytes", "found");
    shard_file_case("b a directory", b_is_a_directory, "b.safetensors", "expected a regular file", "found something else");
    index_decides("tensors twice", b_has_all);
    index_decides("tensor unlisted", b_has_more);
    shard_file_case("single too", single_too, "weight_map: expected model.safetensors among its files", "found only others", NULL);
    assert_int_equal(failures, 0);
}

static void test_enough(void **state)
{
    (void)state;
    expect_cases(90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
