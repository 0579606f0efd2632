#include "engine/kv_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/request.h"

enum { BLOCK = 4, TOKENS_MAX = 64 };

static struct kv_cache *new_cache(uint32_t num_blocks) {
    struct kv_cache *kv = NULL;
    struct error err = ERROR_INIT;
    struct kv_cache_options opt = {
        .num_blocks = num_blocks, .block_size = BLOCK, .hash_key = {1, 2}};
    assert_int_equal(kv_cache_create(&opt, &kv, &err), OK);
    return kv;
}

/* A request whose prompt is first, first + 1, ... */
static struct request *new_request(int32_t first, uint32_t num_prompt) {
    int32_t prompt[TOKENS_MAX];
    for (uint32_t i = 0; i < num_prompt; i++)
        prompt[i] = first + (int32_t)i;
    struct engine_request er = {.prompt = prompt, .num_prompt = num_prompt};
    struct request_shape shape = {.num_tokens_max = TOKENS_MAX, .block_size = BLOCK};
    return request_create(&er, shape);
}

static void compute(struct kv_cache *kv, struct request *rq, uint32_t num_tokens) {
    assert_true(kv_cache_reserve(kv, rq, num_tokens));
    rq->num_computed_tokens = num_tokens;
    kv_cache_commit(kv, rq);
}

static void finish(struct kv_cache *kv, struct request *rq) {
    kv_cache_release(kv, rq);
    request_destroy(rq);
}

static void create_refuses_impossible_shapes(void **state) {
    struct kv_cache *kv = NULL;
    struct error err = ERROR_INIT;
    struct kv_cache_options opt = {.num_blocks = 0, .block_size = BLOCK};
    assert_int_equal(kv_cache_create(&opt, &kv, &err), ERR_INVALID);
    assert_string_equal(err.field, "num_blocks");
    opt.num_blocks = KV_CACHE_BLOCKS_MAX + 1;
    assert_int_equal(kv_cache_create(&opt, &kv, &err), ERR_INVALID);
    assert_string_equal(err.field, "num_blocks");
    opt = (struct kv_cache_options){.num_blocks = 1, .block_size = 12};
    assert_int_equal(kv_cache_create(&opt, &kv, &err), ERR_INVALID);
    assert_string_equal(err.field, "block_size");
    assert_null(kv);
}

static void reserve_grows_a_block_at_a_time(void **state) {
    AUTO(kv_cache) kv = new_cache(8);
    struct request *rq = new_request(1, 10);
    assert_int_equal(kv_cache_num_missing(kv, rq, 1), 1);
    assert_int_equal(kv_cache_num_missing(kv, rq, 9), 3);
    assert_true(kv_cache_reserve(kv, rq, 4));
    assert_int_equal(rq->num_blocks, 1);
    assert_true(kv_cache_reserve(kv, rq, 3)); /* covered: nothing to do */
    assert_int_equal(rq->num_blocks, 1);
    assert_true(kv_cache_reserve(kv, rq, 5));
    assert_int_equal(rq->num_blocks, 2);
    assert_int_not_equal(rq->block_table[0], rq->block_table[1]);
    assert_int_equal(kv_cache_num_free(kv), 6);
    finish(kv, rq);
    assert_int_equal(kv_cache_num_free(kv), 8);
}

static void reserve_changes_nothing_when_blocks_run_out(void **state) {
    AUTO(kv_cache) kv = new_cache(3);
    struct request *a = new_request(1, 8), *b = new_request(100, 8);
    compute(kv, a, 8);
    assert_false(kv_cache_reserve(kv, b, 8));
    assert_int_equal(b->num_blocks, 0);
    assert_int_equal(kv_cache_num_free(kv), 1);
    finish(kv, a);
    assert_true(kv_cache_reserve(kv, b, 8));
    finish(kv, b);
}

static void a_common_prefix_is_shared_in_full_blocks(void **state) {
    AUTO(kv_cache) kv = new_cache(16);
    struct request *a = new_request(1, 10), *b = new_request(1, 10), *c = new_request(1, 10);
    c->tokens[5] = 999; /* leaves the common prefix in its second block */
    compute(kv, a, 10);

    assert_int_equal(kv_cache_match(kv, b, 9), 8);
    assert_int_equal(b->block_table[0], a->block_table[0]);
    assert_int_equal(b->block_table[1], a->block_table[1]);
    assert_int_equal(kv_cache_ref_count(kv, a->block_table[0]), 2);
    assert_int_equal(kv_cache_match(kv, c, 9), 4);
    assert_int_equal(kv_cache_ref_count(kv, a->block_table[0]), 3);
    assert_int_equal(kv_cache_ref_count(kv, a->block_table[1]), 2);
    assert_int_equal(kv_cache_num_free(kv), 13);

    assert_true(kv_cache_reserve(kv, b, 10)); /* what follows is its own */
    assert_int_not_equal(b->block_table[2], a->block_table[2]);
    finish(kv, a);
    finish(kv, b);
    finish(kv, c);
    assert_int_equal(kv_cache_num_free(kv), 16);
}

static void match_stops_at_its_bound(void **state) {
    AUTO(kv_cache) kv = new_cache(16);
    struct request *a = new_request(1, 8), *b = new_request(1, 8);
    compute(kv, a, 8);
    assert_int_equal(kv_cache_match(kv, b, 7), 4); /* the last token must be computed */
    kv_cache_release(kv, b);
    assert_int_equal(kv_cache_match(kv, b, 3), 0);
    assert_int_equal(kv_cache_match(kv, b, 8), 8);
    finish(kv, a);
    finish(kv, b);
}

static void blocks_are_found_only_once_they_are_committed(void **state) {
    AUTO(kv_cache) kv = new_cache(16);
    struct request *a = new_request(1, 8), *b = new_request(1, 8);
    assert_true(kv_cache_reserve(kv, a, 8));
    assert_int_equal(kv_cache_match(kv, b, 8), 0);
    a->num_computed_tokens = 7;
    kv_cache_commit(kv, a);
    assert_int_equal(kv_cache_match(kv, b, 8), 4);
    finish(kv, a);
    finish(kv, b);
}

static void a_block_is_named_by_all_that_is_before_it(void **state) {
    AUTO(kv_cache) kv = new_cache(16);
    struct request *a = new_request(1, 8), *b = new_request(1, 8);
    b->tokens[0] = 77; /* the second block has the same tokens behind another first block */
    compute(kv, a, 8);
    assert_int_equal(kv_cache_match(kv, b, 8), 0);
    finish(kv, a);
    finish(kv, b);
}

static void released_blocks_stay_findable_until_the_space_is_wanted(void **state) {
    AUTO(kv_cache) kv = new_cache(4);
    struct request *a = new_request(1, 8), *b = new_request(1, 8), *c = new_request(100, 12);
    compute(kv, a, 8);
    kv_cache_release(kv, a);
    assert_int_equal(kv_cache_num_free(kv), 4);
    assert_int_equal(kv_cache_match(kv, b, 8), 8);
    kv_cache_release(kv, b);

    /* Two blocks were never used and go first; the third is the end of a's prefix. */
    compute(kv, c, 12);
    assert_int_equal(kv_cache_match(kv, b, 8), 4);
    kv_cache_release(kv, b);
    finish(kv, c);
    request_destroy(a);
    request_destroy(b);
}

static void blocks_of_no_further_use_are_taken_before_findable_ones(void **state) {
    AUTO(kv_cache) kv = new_cache(4);
    struct request *a = new_request(1, 8), *b = new_request(50, 4), *c = new_request(100, 8);
    compute(kv, a, 8);
    kv_cache_release(kv, a);
    assert_true(kv_cache_reserve(kv, b, 4)); /* never computed: aborted before its first step */
    kv_cache_release(kv, b);
    assert_true(kv_cache_reserve(kv, c, 8));
    assert_int_equal(kv_cache_match(kv, a, 8), 8);
    finish(kv, a);
    finish(kv, b);
    finish(kv, c);
}

static void the_least_recently_used_prefix_is_taken_first(void **state) {
    AUTO(kv_cache) kv = new_cache(4);
    struct request *a = new_request(1, 4), *b = new_request(50, 4), *c = new_request(100, 12);
    compute(kv, a, 4);
    compute(kv, b, 4);
    kv_cache_release(kv, a);
    kv_cache_release(kv, b);
    assert_int_equal(kv_cache_match(kv, a, 4), 4); /* a is used again, so b is the older now */
    kv_cache_release(kv, a);
    assert_true(kv_cache_reserve(kv, c, 12));
    assert_int_equal(kv_cache_match(kv, b, 4), 0);
    assert_int_equal(kv_cache_match(kv, a, 4), 4);
    finish(kv, a);
    finish(kv, b);
    finish(kv, c);
}

static void the_same_prefix_computed_twice_is_named_once(void **state) {
    AUTO(kv_cache) kv = new_cache(8);
    struct request *a = new_request(1, 8), *b = new_request(1, 8), *c = new_request(1, 8);
    compute(kv, a, 8);
    compute(kv, b, 8); /* did not look: blocks of its own */
    assert_int_not_equal(a->block_table[0], b->block_table[0]);
    assert_int_equal(kv_cache_match(kv, c, 8), 8);
    assert_int_equal(c->block_table[0], a->block_table[0]);
    finish(kv, a);
    finish(kv, b);
    finish(kv, c);
    assert_int_equal(kv_cache_num_free(kv), 8);
}

static void discarded_blocks_are_never_found_again(void **state) {
    AUTO(kv_cache) kv = new_cache(8);
    struct request *a = new_request(1, 8), *b = new_request(1, 8);
    compute(kv, a, 8);
    assert_int_equal(kv_cache_match(kv, b, 8), 8);
    kv_cache_discard(kv, a);
    kv_cache_release(kv, b);
    assert_int_equal(kv_cache_match(kv, b, 8), 0);
    assert_int_equal(kv_cache_num_free(kv), 8);
    request_destroy(a);
    request_destroy(b);
}

static void nothing_is_shared_when_prefix_caching_is_off(void **state) {
    struct kv_cache_options opt = {
        .num_blocks = 8, .block_size = BLOCK, .disable_prefix_caching = true};
    AUTO(kv_cache) kv = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(kv_cache_create(&opt, &kv, &err), OK);
    struct request *a = new_request(1, 8), *b = new_request(1, 8);
    compute(kv, a, 8);
    assert_int_equal(kv_cache_match(kv, b, 8), 0);
    finish(kv, a);
    finish(kv, b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_refuses_impossible_shapes),
        cmocka_unit_test(reserve_grows_a_block_at_a_time),
        cmocka_unit_test(reserve_changes_nothing_when_blocks_run_out),
        cmocka_unit_test(a_common_prefix_is_shared_in_full_blocks),
        cmocka_unit_test(match_stops_at_its_bound),
        cmocka_unit_test(blocks_are_found_only_once_they_are_committed),
        cmocka_unit_test(a_block_is_named_by_all_that_is_before_it),
        cmocka_unit_test(released_blocks_stay_findable_until_the_space_is_wanted),
        cmocka_unit_test(blocks_of_no_further_use_are_taken_before_findable_ones),
        cmocka_unit_test(the_least_recently_used_prefix_is_taken_first),
        cmocka_unit_test(the_same_prefix_computed_twice_is_named_once),
        cmocka_unit_test(discarded_blocks_are_never_found_again),
        cmocka_unit_test(nothing_is_shared_when_prefix_caching_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
