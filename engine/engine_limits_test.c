#include "engine/engine_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct engine_site roomy = {
    .context_length = 2048, .kv_block_bytes = 1 << 16, .free_bytes = 1ull << 40};

static void defaults_are_those_of_the_header(void **state) {
    struct engine_limits l;
    struct error err = ERROR_INIT;
    assert_int_equal(engine_limits_resolve(&(struct engine_options){0}, &roomy, &l, &err), OK);
    assert_int_equal(l.max_model_len, 2048);
    assert_int_equal(l.max_num_seqs, 64);
    assert_int_equal(l.max_num_batched_tokens, 512);
    assert_int_equal(l.max_num_waiting, 1024);
    assert_int_equal(l.block_size, 16);
    assert_int_equal(l.num_blocks, 16 * 2048 / 16);
    assert_false(l.is_shortened);
}

static void memory_bounds_the_cache_and_then_the_context(void **state) {
    struct engine_limits l;
    struct error err = ERROR_INIT;
    struct engine_site site = roomy;
    site.free_bytes = 2ull * 200 * site.kv_block_bytes; /* 200 blocks: a context and a half */
    assert_int_equal(engine_limits_resolve(&(struct engine_options){0}, &site, &l, &err), OK);
    assert_int_equal(l.num_blocks, 200);
    assert_int_equal(l.max_model_len, 2048);

    site.free_bytes = 2ull * 100 * site.kv_block_bytes;
    assert_int_equal(engine_limits_resolve(&(struct engine_options){0}, &site, &l, &err), OK);
    assert_int_equal(l.num_blocks, 100);
    assert_int_equal(l.max_model_len, 1600);
    assert_true(l.is_shortened);

    /* Asked for, it is not cut behind the operator's back. */
    struct engine_options opt = {.max_model_len = 2048};
    assert_int_equal(engine_limits_resolve(&opt, &site, &l, &err), ERR_EXHAUSTED);
    assert_string_equal(err.field, "max_model_len");
    assert_non_null(strstr(err.text, "2048 tokens"));
    assert_non_null(strstr(err.text, "1600 tokens"));
    site.free_bytes = 10;
    assert_int_equal(engine_limits_resolve(&(struct engine_options){0}, &site, &l, &err),
                     ERR_EXHAUSTED);
}

static void kv_cache_bytes_are_used_up(void **state) {
    struct engine_limits l;
    struct error err = ERROR_INIT;
    struct engine_options opt = {.kv_cache_bytes = 300ull << 16};
    assert_int_equal(engine_limits_resolve(&opt, &roomy, &l, &err), OK);
    assert_int_equal(l.num_blocks, 300);
    opt = (struct engine_options){.kv_cache_bytes = 100ull << 16, .max_model_len = 2000};
    assert_int_equal(engine_limits_resolve(&opt, &roomy, &l, &err), ERR_EXHAUSTED);
    assert_string_equal(err.field, "kv_cache_bytes");
}

#define REFUSES(name, ...)                                                                         \
    do {                                                                                           \
        struct engine_options opt = {__VA_ARGS__};                                                 \
        struct engine_limits l;                                                                    \
        struct error err = ERROR_INIT;                                                             \
        assert_int_equal(engine_limits_resolve(&opt, &roomy, &l, &err), ERR_INVALID);              \
        assert_string_equal(err.field, name);                                                      \
    } while (0)

static void each_bound_is_kept_and_named(void **state) {
    REFUSES("max_model_len", .max_model_len = 2049);
    REFUSES("max_model_len", .max_model_len = 1);
    REFUSES("max_num_seqs", .max_num_seqs = ENGINE_NUM_SEQS_MAX + 1);
    REFUSES("max_num_batched_tokens", .max_num_batched_tokens = ENGINE_BATCHED_TOKENS_MAX + 1);
    REFUSES("max_num_batched_tokens", .max_num_batched_tokens = 63, .max_num_seqs = 64);
    REFUSES("max_num_waiting", .max_num_waiting = ENGINE_NUM_WAITING_MAX + 1);
    REFUSES("block_size", .block_size = 24);
    REFUSES("block_size", .block_size = ENGINE_BLOCK_SIZE_MAX * 2);
}

static void sequences_and_step_follow_each_other_where_one_is_given(void **state) {
    struct engine_limits l;
    struct error err = ERROR_INIT;
    struct engine_options opt = {.max_num_seqs = 1000};
    assert_int_equal(engine_limits_resolve(&opt, &roomy, &l, &err), OK);
    assert_int_equal(l.max_num_batched_tokens, 1000);
    opt = (struct engine_options){.max_num_batched_tokens = 8};
    assert_int_equal(engine_limits_resolve(&opt, &roomy, &l, &err), OK);
    assert_int_equal(l.max_num_seqs, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_header),
        cmocka_unit_test(memory_bounds_the_cache_and_then_the_context),
        cmocka_unit_test(kv_cache_bytes_are_used_up),
        cmocka_unit_test(each_bound_is_kept_and_named),
        cmocka_unit_test(sequences_and_step_follow_each_other_where_one_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
