/* Run directories: numbers, the rules for existing results, identities, the newest run wins. (Complete results are tested
 * with assembly.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include "base/json.h"
#include "base/publish.h"
#include "io/journal.h"
#include "io/rundir.h"
#include "io/start.h"
#include "records.h"
#include "tmpdir.h"

static char *const argv_[] = {(char *)"moebatch", (char *)"run", (char *)"-m", (char *)"my model", (char *)"--overwrite"};

static const struct mb_shape nothing;
static const struct mb_input_info input = {.path = "in.jsonl", .total_lines = 10, .lines = 10, .rows = 10, .requests = 10};

static struct mb_owner owner_of(const struct mb_identity *id)
{
    return (struct mb_owner){.ranks = 2, .argc = 5, .argv = (char **)argv_, .input = &input, .identity = id,
                             .shape = &nothing};
}

static const struct mb_identity who = {.input = {1, 2}, .model = {3, 4}, .seed = 5, .sampling = NULL, .path = (char *)"f32"};

static enum mb_status make(const char *results, bool resume, bool overwrite, const struct mb_identity *id,
                           enum mb_start *state, struct mb_rundir **out)
{
    struct mb_owner o = owner_of(id);
    struct mb_start_options so = {.results = results, .resume = resume, .overwrite = overwrite};
    return mb_start(&so, &o, NULL, state, out);
}

static enum mb_status check(const char *results, bool resume, bool overwrite)
{
    struct mb_start_options so = {.results = results, .resume = resume, .overwrite = overwrite};
    return mb_start_check(&so);
}

static void journal_in(const struct mb_rundir *d, bool with_record)
{
    struct mb_journal *j = NULL;
    struct mb_journal_options o = {.dir = d->run, .identity = &who, .run = d->number, .rank = 0};
    assert_int_equal(mb_journal_create(&o, &j), MB_OK);
    if (with_record) {
        struct mb_record r;
        rec_make(1, 0, &r);
        assert_int_equal(mb_journal_record(j, &r), MB_OK);
        mb_record_fini(&r);
    }
    mb_journal_destroy(j);
}

static void test_numbers(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "deep/r.h5");
    struct mb_rundir *a = NULL, *b = NULL, *c = NULL;
    enum mb_start s;
    assert_int_equal(make(results, true, false, &who, &s, &a), MB_OK); /* --resume of nothing starts */
    assert_int_equal(s, MB_START_FRESH);
    assert_int_equal(a->number, 1);
    journal_in(a, true);
    assert_int_equal(mb_rundir_newest(a), MB_OK);
    assert_int_equal(check(results, false, false), MB_INPUT);
    assert_int_equal(make(results, false, false, &who, &s, &b), MB_INPUT);
    assert_null(b);
    assert_int_equal(make(results, true, true, &who, &s, &b), MB_USAGE);
    assert_int_equal(make(results, true, false, &who, &s, &b), MB_OK);
    assert_int_equal(s, MB_START_RESUME);
    assert_int_equal(b->number, 2);
    assert_int_equal(mb_rundir_newest(a), MB_STOP);
    assert_int_equal(mb_rundir_newest(b), MB_OK);
    assert_int_equal(make(results, false, true, &who, &s, &c), MB_OK);
    assert_int_equal(s, MB_START_FRESH);
    assert_int_equal(c->number, 3); /* numbers are never given twice */
    assert_false(mb_path_exists(a->run));
    assert_int_equal(mb_rundir_newest(b), MB_STOP);
    mb_rundir_destroy(a);
    mb_rundir_destroy(b);
    mb_rundir_destroy(c);
    free(results);
    tmpdir_remove(dir);
}

/* A start that failed before it wrote a record leaves nothing that would need --resume. */
static void test_empty_run_is_nothing(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "r.h5");
    struct mb_rundir *a = NULL, *b = NULL;
    struct mb_identity other = who;
    enum mb_start s;
    other.seed = 6;
    assert_int_equal(make(results, false, false, &who, &s, &a), MB_OK);
    journal_in(a, false);
    assert_int_equal(make(results, false, false, &other, &s, &b), MB_OK);
    assert_int_equal(s, MB_START_FRESH);
    assert_int_equal(b->number, 2);
    mb_rundir_destroy(a);
    mb_rundir_destroy(b);
    free(results);
    tmpdir_remove(dir);
}

static void test_identity(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "r.h5");
    struct mb_rundir *a = NULL, *b = NULL;
    struct mb_identity other = who;
    enum mb_start s;
    other.path = (char *)"bf16";
    assert_int_equal(make(results, false, false, &who, &s, &a), MB_OK);
    journal_in(a, true);
    assert_int_equal(make(results, true, false, &other, &s, &b), MB_INPUT);
    assert_int_equal(mb_rundir_newest(a), MB_OK); /* the refused one made nothing */
    mb_rundir_destroy(a);
    free(results);
    tmpdir_remove(dir);
}

/* The hashes of weights are known only after they were read: then they are compared with every earlier run's. */
static void test_weights(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "r.h5");
    struct mb_hash128 hash = {7, 8};
    struct mb_identity now = who;
    struct mb_rundir *a = NULL, *b = NULL;
    enum mb_start s;
    memset(&now.files, 0, sizeof now.files);
    assert_int_equal(mb_files_put(&now.files, "tokenizer.json", 3, &hash), MB_OK);
    assert_int_equal(mb_files_put(&now.files, "model.safetensors", 100, NULL), MB_OK);
    assert_int_equal(make(results, false, false, &now, &s, &a), MB_OK);
    journal_in(a, true);
    now.files.v[1].hash = hash;
    now.files.v[1].known = true;
    assert_int_equal(mb_start_identify(a, &now), MB_OK);

    now.files.v[1].known = false; /* a resume that has not read them yet */
    assert_int_equal(make(results, true, false, &now, &s, &b), MB_OK);
    now.files.v[1].known = true;
    now.files.v[1].hash.hi++;
    assert_int_equal(mb_start_identify(b, &now), MB_INPUT);
    now.files.v[1].hash.hi--;
    assert_int_equal(mb_start_identify(b, &now), MB_OK);
    mb_rundir_destroy(b);
    now.files.v[0].hash.lo++; /* known at once */
    assert_int_equal(make(results, true, false, &now, &s, &b), MB_INPUT);
    now.files.v[0].hash.lo--;
    now.files.v[1].bytes++;
    assert_int_equal(make(results, true, false, &now, &s, &b), MB_INPUT);
    now.files.v[1].bytes--;
    now.files.n--;
    assert_int_equal(make(results, true, false, &now, &s, &b), MB_INPUT);
    now.files.n++;
    mb_files_fini(&now.files);
    mb_rundir_destroy(a);
    free(results);
    tmpdir_remove(dir);
}

static void test_foreign_file(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "r.h5");
    struct mb_rundir *a = NULL;
    enum mb_start s;
    assert_int_equal(mb_publish_bytes(results, "my thesis", 9, 0), MB_OK);
    assert_int_equal(check(results, true, false), MB_INPUT);
    assert_int_equal(check(results, false, false), MB_INPUT);
    assert_int_equal(make(results, false, true, &who, &s, &a), MB_OK);
    assert_false(mb_path_exists(results));
    mb_rundir_destroy(a);
    free(results);
    tmpdir_remove(dir);
}

static void test_files(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *results = mb_path_join(dir, "r.h5");
    struct mb_rundir *a = NULL;
    enum mb_start s;
    json_t *v = NULL;
    assert_int_equal(make(results, false, false, &who, &s, &a), MB_OK);
    assert_int_equal(mb_rundir_owner(a->dir, &v), MB_OK);
    assert_int_equal(json_integer_value(json_object_get(v, "ranks")), 2);
    unsetenv("SLURM_STEP_ID");
    char *command = mb_rundir_resume_command(v);
    assert_string_equal(command, "mpirun -n 2 moebatch run -m 'my model' --resume");
    free(command);
    json_object_set_new(v, "launcher", json_pack("[s,s,s,s,s]", "mpirun", "-n", "2", "--bind-to", "none; x"));
    command = mb_rundir_resume_command(v);
    assert_string_equal(command, "mpirun -n 2 --bind-to 'none; x' moebatch run -m 'my model' --resume");
    free(command);
    json_decref(v);
    char *all = mb_rundir_incarnations(a->dir);
    assert_non_null(strstr(all, "\"run\":1"));
    free(all);
    struct mb_run_status st = {.state = "running", .exit_code = -1, .rows = 10, .committed = 4, .acknowledged = 3};
    mb_rundir_status(a, &st);
    char *path = mb_path_join(a->dir, "status.json");
    assert_int_equal(mb_json_load(path, 1 << 20, MB_INPUT, &v), MB_OK);
    assert_int_equal(json_integer_value(json_object_get(v, "acknowledged")), 3);
    json_decref(v);
    journal_in(a, true);
    assert_int_equal(mb_rundir_finish(a, true), MB_OK);
    assert_true(mb_path_exists(a->run));
    assert_int_equal(mb_rundir_finish(a, false), MB_OK);
    assert_false(mb_path_exists(a->run));
    assert_true(mb_path_exists(path));
    free(path);
    mb_rundir_destroy(a);
    free(results);
    tmpdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),      cmocka_unit_test(test_empty_run_is_nothing),
        cmocka_unit_test(test_identity),     cmocka_unit_test(test_foreign_file),
        cmocka_unit_test(test_files),        cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
