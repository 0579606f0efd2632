#include "engine/sampling_params.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { VOCAB = 100 };

static void defaults_are_accepted(void **state) {
    struct sampling_params p;
    struct error err = ERROR_INIT;
    sampling_params_init(&p);
    assert_int_equal(sampling_params_check(&p, VOCAB, &err), OK);
    assert_true(p.temperature == 1 && p.top_p == 1 && p.min_p == 0 && p.top_k == 0);
    assert_int_equal(p.num_logprobs, -1);
}

#define REFUSES(name, change)                                                                      \
    do {                                                                                           \
        struct sampling_params p;                                                                  \
        struct error err = ERROR_INIT;                                                             \
        sampling_params_init(&p);                                                                  \
        change;                                                                                    \
        assert_int_equal(sampling_params_check(&p, VOCAB, &err), ERR_INVALID);                     \
        assert_string_equal(err.field, name);                                                      \
        assert_non_null(strstr(err.text, name));                                                   \
    } while (0)

#define ACCEPTS(change)                                                                            \
    do {                                                                                           \
        struct sampling_params p;                                                                  \
        struct error err = ERROR_INIT;                                                             \
        sampling_params_init(&p);                                                                  \
        change;                                                                                    \
        assert_int_equal(sampling_params_check(&p, VOCAB, &err), OK);                              \
    } while (0)

static void each_bound_is_kept_and_named(void **state) {
    ACCEPTS(p.temperature = 0);
    REFUSES("temperature", p.temperature = -0.1f);
    REFUSES("temperature", p.temperature = NAN);
    REFUSES("temperature", p.temperature = INFINITY);
    ACCEPTS(p.top_p = 0.001f);
    REFUSES("top_p", p.top_p = 0);
    REFUSES("top_p", p.top_p = 1.01f);
    REFUSES("top_p", p.top_p = NAN);
    ACCEPTS(p.min_p = 1);
    REFUSES("min_p", p.min_p = -0.01f);
    REFUSES("min_p", p.min_p = 1.01f);
    REFUSES("min_p", p.min_p = NAN);
    ACCEPTS(p.top_k = -1);
    ACCEPTS(p.top_k = INT32_MAX);
    REFUSES("top_k", p.top_k = -2);
    ACCEPTS(p.presence_penalty = -2);
    REFUSES("presence_penalty", p.presence_penalty = 2.01f);
    REFUSES("frequency_penalty", p.frequency_penalty = -2.01f);
    REFUSES("repetition_penalty", p.repetition_penalty = 0);
    REFUSES("repetition_penalty", p.repetition_penalty = NAN);
    ACCEPTS(p.num_logprobs = ENGINE_TOP_LOGPROBS_MAX);
    REFUSES("logprobs", p.num_logprobs = ENGINE_TOP_LOGPROBS_MAX + 1);
    REFUSES("logprobs", p.num_logprobs = -2);
    REFUSES("max_tokens", p.max_tokens = 0);
    ACCEPTS(p.min_tokens = p.max_tokens);
    REFUSES("min_tokens", p.min_tokens = p.max_tokens + 1);
    ACCEPTS(p.num_stop_ids = ENGINE_STOP_IDS_MAX);
    REFUSES("stop_token_ids", p.num_stop_ids = ENGINE_STOP_IDS_MAX + 1);
    ACCEPTS(p.num_logit_bias = ENGINE_LOGIT_BIAS_MAX);
    REFUSES("logit_bias", p.num_logit_bias = ENGINE_LOGIT_BIAS_MAX + 1);
    REFUSES("logit_bias", (p.num_logit_bias = 1, p.logit_bias[0].id = -1));
    REFUSES("logit_bias", (p.num_logit_bias = 1, p.logit_bias[0].id = VOCAB));
    REFUSES("logit_bias", (p.num_logit_bias = 1, p.logit_bias[0].bias = 101));
    REFUSES("logit_bias", (p.num_logit_bias = 1, p.logit_bias[0].bias = NAN));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_accepted),
        cmocka_unit_test(each_bound_is_kept_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
