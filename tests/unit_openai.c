/* Result lines in OpenAI's form against lines written by hand from its documentation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "fake_tokenizer.h"
#include "io/openai.h"

static struct mb_tokenizer tok;
static const struct mb_openai_options options = {&tok, "demo", 1700000000};

#define TEXT(s) ((struct mb_text){(char *)(s), sizeof(s) - 1})

static void expect(const struct mb_record *r, int32_t n, const char *want)
{
    struct mb_bytes out = {0};
    json_error_t e;

    assert_int_equal(mb_openai_line(&options, r, n, &out), MB_OK);
    assert_true(out.len > 0 && out.data[out.len - 1] == '\n');
    assert_null(memchr(out.data, '\n', out.len - 1));
    json_t *have = json_loadb((char *)out.data, out.len, JSON_ALLOW_NUL, &e);
    json_t *should = json_loads(want, JSON_ALLOW_NUL, &e);
    assert_non_null(have);
    if (should == NULL)
        fail_msg("the expected line is no JSON: %s at %d", e.text, e.position);
    if (!json_equal(have, should))
        fail_msg("have %.*s\nwant %s", (int)out.len, (const char *)out.data, want);
    json_decref(have);
    json_decref(should);
    mb_bytes_fini(&out);
}

static int32_t prompt_ids[] = {FAKE_BOS, 'a', 'b'};
static float prompt_lp[] = {NAN, -1.5f, -0.25f};
static int32_t output_ids[] = {'c', 195, FAKE_XY};
static float output_lp[] = {-0.5f, -INFINITY, -2.0f};
static int32_t top_ids[] = {'c', 'd', 195, 196, FAKE_XY, -1};
static float top_lp[] = {-0.5f, -0.75f, -1.0f, -3.0f, -2.0f, NAN};

static struct mb_record sample(void)
{
    return (struct mb_record){.line = 4, .n = 1, .id = TEXT("r\xc3\xa9q"), .finish = MB_FINISH_LENGTH, .n_prompt = 3,
                              .prompt_ids = prompt_ids, .n_output = 3, .output_ids = output_ids,
                              .output_logprobs = output_lp, .text = TEXT("c?xy"), .openai = true};
}

#define HEAD "{\"id\":\"batch_req_5\",\"custom_id\":\"r\xc3\xa9q\","
#define GOOD(body) HEAD "\"error\":null,\"response\":{\"status_code\":200,\"request_id\":\"req_5\",\"body\":{" body "}}}"
#define COMPLETION "\"id\":\"cmpl-5\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"demo\","
#define CHAT "\"id\":\"chatcmpl-5\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"demo\","
#define USAGE "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":3,\"total_tokens\":6}"

/* What an adapter served says so. */
static void test_adapter(void **state)
{
    struct mb_record r = sample();
    struct mb_bytes out = {0};

    (void)state;
    r.adapter = TEXT("de");
    for (int chat = 0; chat < 2; chat++) {
        r.chat = chat == 1;
        out.len = 0;
        assert_int_equal(mb_openai_line(&options, &r, 1, &out), MB_OK);
        json_t *have = json_loadb((char *)out.data, out.len, JSON_ALLOW_NUL, NULL);
        json_t *body = json_object_get(json_object_get(have, "response"), "body");
        assert_string_equal(json_string_value(json_object_get(body, "model")), "de");
        json_decref(have);
    }
    mb_bytes_fini(&out);
}

static void test_completion(void **state)
{
    struct mb_record r = sample();
    (void)state;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"c?xy\",\"logprobs\":null,\"finish_reason\":\"length\"}],"
                       USAGE));
    r.want_logprobs = true;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"c?xy\",\"finish_reason\":\"length\",\"logprobs\":{"
                       "\"tokens\":[\"c\",\"\",\"\xef\xbf\xbdxy\"],\"token_logprobs\":[-0.5,-9999.0,-2.0],"
                       "\"top_logprobs\":null,\"text_offset\":[0,1,1]}}]," USAGE));
    r.top_n = 2;
    r.top_ids = top_ids;
    r.top_logprobs = top_lp;
    r.echo = true;
    r.prompt_logprobs = prompt_lp;
    r.finish = MB_FINISH_STOP;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"<s>abc?xy\",\"finish_reason\":\"stop\",\"logprobs\":{"
                       "\"tokens\":[\"<s>\",\"a\",\"b\",\"c\",\"\",\"\xef\xbf\xbdxy\"],"
                       "\"token_logprobs\":[null,-1.5,-0.25,-0.5,-9999.0,-2.0],"
                       "\"top_logprobs\":[null,null,null,{\"c\":-0.5,\"d\":-0.75},{\"\":-1.0,\"token_id:196\":-3.0},"
                       "{\"\xef\xbf\xbdxy\":-2.0}],\"text_offset\":[0,3,4,5,6,6]}}]," USAGE));
    static int32_t ids[6] = {-1, -1, 'a', 'c', 'd', -1}; /* alternatives of the prompt, of which the first token has none */
    static float lps[6] = {NAN, NAN, -1.5f, -2, -0.125f, NAN};
    r.prompt_top = (struct mb_tops){2, ids, lps};
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"<s>abc?xy\",\"finish_reason\":\"stop\",\"logprobs\":{"
                       "\"tokens\":[\"<s>\",\"a\",\"b\",\"c\",\"\",\"\xef\xbf\xbdxy\"],"
                       "\"token_logprobs\":[null,-1.5,-0.25,-0.5,-9999.0,-2.0],"
                       "\"top_logprobs\":[null,{\"a\":-1.5,\"c\":-2.0},{\"d\":-0.125},{\"c\":-0.5,\"d\":-0.75},{\"\":-1.0,\"token_id:196\":-3.0},"
                       "{\"\xef\xbf\xbdxy\":-2.0}],\"text_offset\":[0,3,4,5,6,6]}}]," USAGE));
    r.echo = r.want_logprobs = false;
    r.prompt_asked = true;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"c?xy\",\"finish_reason\":\"stop\",\"logprobs\":null,"
                       "\"prompt_logprobs\":[null,{\"97\":{\"logprob\":-1.5,\"rank\":1,\"decoded_token\":\"a\"},"
                       "\"99\":{\"logprob\":-2.0,\"rank\":2,\"decoded_token\":\"c\"}},"
                       "{\"100\":{\"logprob\":-0.125,\"rank\":1,\"decoded_token\":\"d\"},"
                       "\"98\":{\"logprob\":-0.25,\"rank\":null,\"decoded_token\":\"b\"}}]}]," USAGE));
    r.echo = r.want_logprobs = true;
    r.prompt_asked = false;
    tok.front = true; /* the BOS is the tokenizer's, not the prompt's */
    r.top_n = 0;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"abc?xy\",\"finish_reason\":\"stop\",\"logprobs\":{"
                       "\"tokens\":[\"<s>\",\"a\",\"b\",\"c\",\"\",\"\xef\xbf\xbdxy\"],"
                       "\"token_logprobs\":[null,-1.5,-0.25,-0.5,-9999.0,-2.0],"
                       "\"top_logprobs\":null,\"text_offset\":[0,0,1,2,3,3]}}]," USAGE));
    tok.front = false;
}

static void test_chat(void **state)
{
    struct mb_record r = sample();
    (void)state;
    r.chat = true;
    r.finish = MB_FINISH_EOS;
    expect(&r, 1, GOOD(CHAT "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"c?xy\",\"refusal\":null},"
                       "\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE));
    r.want_logprobs = true;
    r.top_n = 2;
    r.top_ids = top_ids;
    r.top_logprobs = top_lp;
    expect(&r, 1, GOOD(CHAT "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"c?xy\",\"refusal\":null},"
                       "\"finish_reason\":\"stop\",\"logprobs\":{\"refusal\":null,\"content\":["
                       "{\"token\":\"c\",\"logprob\":-0.5,\"bytes\":[99],\"top_logprobs\":["
                       "{\"token\":\"c\",\"logprob\":-0.5,\"bytes\":[99]},{\"token\":\"d\",\"logprob\":-0.75,\"bytes\":[100]}]},"
                       "{\"token\":\"\",\"logprob\":-9999.0,\"bytes\":[195],\"top_logprobs\":["
                       "{\"token\":\"\",\"logprob\":-1.0,\"bytes\":[195]},"
                       "{\"token\":\"\",\"logprob\":-3.0,\"bytes\":[196]}]},"
                       "{\"token\":\"\xef\xbf\xbdxy\",\"logprob\":-2.0,\"bytes\":[120,121],\"top_logprobs\":["
                       "{\"token\":\"\xef\xbf\xbdxy\",\"logprob\":-2.0,\"bytes\":[120,121]}]}]}}]," USAGE));
}

static void test_choices(void **state)
{
    struct mb_record r[2] = {sample(), sample()};
    (void)state;
    r[0].n = r[1].n = 2;
    r[1].choice = 1;
    r[1].n_output = 1;
    r[1].text = TEXT("c");
    r[1].finish = MB_FINISH_EOS;
    expect(r, 2, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"c?xy\",\"logprobs\":null,\"finish_reason\":\"length\"},"
                      "{\"index\":1,\"text\":\"c\",\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                      "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}"));
    r[1].status = MB_ROW_ERROR;
    r[1].error = TEXT("it broke");
    expect(r, 2, HEAD "\"error\":null,\"response\":{\"status_code\":400,\"request_id\":\"req_5\",\"body\":{\"error\":{"
                 "\"message\":\"it broke\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}}}");
    r[0].status = MB_ROW_PENDING;
    expect(r, 2, HEAD "\"response\":null,\"error\":{\"code\":\"pending\",\"message\":\"the job has not finished this request\"}}");
}

static void test_scored(void **state)
{
    struct mb_record r = sample();
    (void)state;
    r.kind = MB_KIND_LOGLIKELIHOOD;
    r.n_output = 0;
    r.output_ids = NULL;
    r.text = (struct mb_text){0};
    r.finish = MB_FINISH_NONE;
    r.prompt_logprobs = prompt_lp;
    expect(&r, 1, GOOD(COMPLETION "\"choices\":[{\"index\":0,\"text\":\"<s>ab\",\"finish_reason\":\"length\",\"logprobs\":{"
                       "\"tokens\":[\"<s>\",\"a\",\"b\"],\"token_logprobs\":[null,-1.5,-0.25],"
                       "\"top_logprobs\":null,\"text_offset\":[0,3,4]}}],"
                       "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":0,\"total_tokens\":3}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter), cmocka_unit_test(test_completion),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_scored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
