/* Parameters: defaults, bounds, and refusals that name the parameter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/openai_json.h"
#include "api/openai_params.h"

static const struct model_generation generation = {
    .temperature = 0.6f, .top_p = 0.9f, .min_p = -1, .repetition_penalty = -1, .top_k = 20};

static enum errc parse(const char *text, enum openai_endpoint endpoint, struct openai_params *p,
                       json_t **body, struct error *err) {
    json_error_t at;
    *body = json_loads(text, 0, &at);
    if (!*body)
        fail_msg("%s: %s", text, at.text);
    return openai_params_parse(*body, endpoint, &generation, 20, p, err);
}

static void what_is_not_said_is_the_models_or_vllms_default(void **state) {
    static struct openai_params p;
    struct error err = ERROR_INIT;
    json_t *body;
    assert_int_equal(parse("{}", OPENAI_CHAT, &p, &body, &err), OK);
    assert_true(p.sampling.temperature == 0.6f && p.sampling.top_p == 0.9f);
    assert_int_equal(p.sampling.top_k, 20);
    assert_true(p.sampling.repetition_penalty == 1 && p.sampling.min_p == 0);
    assert_false(p.has_max_tokens);
    assert_true(p.add_generation_prompt);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.sampling.num_logprobs, -1);
    json_decref(body);
    assert_int_equal(parse("{\"temperature\":null}", OPENAI_COMPLETIONS, &p, &body, &err), OK);
    assert_int_equal(p.sampling.max_tokens, 16);
    json_decref(body);
}

static void what_is_said_takes_effect(void **state) {
    static struct openai_params p;
    struct error err = ERROR_INIT;
    json_t *body;
    const char *text =
        "{\"temperature\":0,\"top_k\":-1,\"seed\":-5,\"stop\":[\"a\",\"b\"],\"n\":2,\"best_of\":2,"
        "\"max_tokens\":4,\"max_completion_tokens\":9,\"logprobs\":true,\"top_logprobs\":3,"
        "\"logit_bias\":{\"7\":-100,\"8\":1.5},\"stop_token_ids\":[3],\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"tools\":[]}";
    if (parse(text, OPENAI_CHAT, &p, &body, &err))
        fail_msg("%s", err.text);
    assert_true(p.sampling.temperature == 0);
    assert_int_equal(p.sampling.top_k, -1);
    assert_true(p.sampling.has_seed);
    assert_int_equal(p.num_stop, 2);
    assert_string_equal(p.stop[1], "b");
    assert_int_equal(p.sampling.max_tokens, 9);
    assert_int_equal(p.sampling.num_logprobs, 3);
    assert_int_equal(p.sampling.num_logit_bias, 2);
    assert_int_equal(p.sampling.stop_ids[0], 3);
    assert_true(p.stream && p.include_usage);
    json_decref(body);
}

static void expect_refused(const char *text, const char *field) {
    static struct openai_params p;
    for (int endpoint = OPENAI_CHAT; endpoint <= OPENAI_COMPLETIONS; endpoint++) {
        struct error err = ERROR_INIT;
        json_t *body;
        assert_int_equal(parse(text, (enum openai_endpoint)endpoint, &p, &body, &err), ERR_INVALID);
        if (strcmp(err.field, field) != 0)
            fail_msg("%s: field \"%s\", text \"%s\"", text, err.field, err.text);
        assert_non_null(strstr(err.text, field));
        json_decref(body);
    }
}

static void bad_values_are_refused_by_name(void **state) {
    static const char *const cases[][2] = {
        {"{\"temperature\":2.01}", "temperature"},
        {"{\"temperature\":\"hot\"}", "temperature"},
        {"{\"top_p\":0}", "top_p"},
        {"{\"min_p\":-0.1}", "min_p"},
        {"{\"top_k\":-2}", "top_k"},
        {"{\"n\":0}", "n"},
        {"{\"n\":129}", "n"},
        {"{\"best_of\":2}", "best_of"},
        {"{\"max_tokens\":0}", "max_tokens"},
        {"{\"max_tokens\":1e300}", "max_tokens"},
        {"{\"min_tokens\":9,\"max_tokens\":3}", "min_tokens"},
        {"{\"presence_penalty\":3}", "presence_penalty"},
        {"{\"repetition_penalty\":0}", "repetition_penalty"},
        {"{\"stop\":\"\"}", "stop"},
        {"{\"stop\":[1]}", "stop"},
        {"{\"stop_token_ids\":[-1]}", "stop_token_ids"},
        {"{\"logit_bias\":{\"x\":1}}", "logit_bias"},
        {"{\"logit_bias\":{\"1\":101}}", "logit_bias"},
        {"{\"seed\":1.5}", "seed"},
        {"{\"stream\":1}", "stream"},
        {"{\"stream_options\":{}}", "stream_options"},
        {"{\"response_format\":{\"type\":\"json_object\"}}", "response_format"},
        {"{\"tools\":[{}]}", "tools"},
        {"{\"suffix\":\"x\"}", "suffix"},
        {"{\"use_beam_search\":true}", "use_beam_search"},
        {"{\"guided_json\":{}}", "guided_json"},
        {"{\"temprature\":1}", "temprature"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_refused(cases[i][0], cases[i][1]);
}

static void text_is_escaped_as_json_wants(void **state) {
    AUTO_BUF out = BUF_INIT;
    openai_escape(&out, "a\"\\\n\r\t\x01\x1f\xc3\xa4\0z", 12);
    assert_string_equal(out.data, "a\\\"\\\\\\n\\r\\t\\u0001\\u001f\xc3\xa4\\u0000z");
}

static void an_error_says_type_param_and_request(void **state) {
    struct error err = ERROR_INIT;
    (void)err_field(&err, ERR_INVALID, "n", "n: \"x\" is bad");
    AUTO_BUF out = BUF_INIT;
    openai_error_body(&err, "r-1", &out);
    assert_string_equal(out.data, "{\"error\":{\"message\":\"n: \\\"x\\\" is bad\",\"type\":"
                                  "\"invalid_request_error\",\"param\":\"n\",\"code\":null,"
                                  "\"request_id\":\"r-1\"}}");
    assert_int_equal(openai_status(ERR_EXHAUSTED), 429);
    assert_int_equal(openai_status(ERR_UNAVAILABLE), 503);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_is_the_models_or_vllms_default),
        cmocka_unit_test(what_is_said_takes_effect),
        cmocka_unit_test(bad_values_are_refused_by_name),
        cmocka_unit_test(text_is_escaped_as_json_wants),
        cmocka_unit_test(an_error_says_type_param_and_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
