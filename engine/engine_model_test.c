/* The engine on real models, a tiny one of random weights and a trained one: what a request gets
 * must not depend, in a single bit, on what else is in the batch, how its prompt is cut into
 * chunks, or how often it is preempted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/engine.h"
#include "engine/model.h"
#include "engine/recording.h"
#include "engine/runner.h"
#include "engine/shared_data.h"
#include "engine/tiny_model.h"
#include "engine/tokenizer.h"

enum { REQUESTS = 32, NUM_TOKENS = 24, MODEL_LEN = 224 };

static struct model *model; /* the group's; NULL: not there */

static struct engine *new_engine(const struct engine_options *opt) {
    struct engine *e = NULL;
    struct error err = ERROR_INIT;
    if (engine_create(model, opt, &e, &err))
        fail_msg("engine_create: %s", err.text);
    return e;
}

struct answer {
    int32_t ids[NUM_TOKENS];
    float logprobs[NUM_TOKENS];
    uint32_t num;
};

/* Texts of many lengths, half of them with a common beginning; odd ones sample with a seed. */
static struct recording *ask(struct engine *e, int number) {
    static const char *const beginnings[] = {
        "Once upon a time there was a little girl named Lily who had a big red ball and",
        "Tom saw a",
        "One day, the sun was shining and all the animals of the forest came to the lake to drink. "
        "The bear said to the fox: \"",
    };
    static const char *const ends[] = {"", " dog", " cat ran", " the bird did not want to go home"};
    AUTO_FREE char *text =
        mem_printf("%s%s", beginnings[number % 3], ends[(number / 3) % ARRAY_LEN(ends)]);
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    struct error err = ERROR_INIT;
    struct tokenizer_encode_options how = {.add_special = true};
    assert_int_equal(tokenizer_encode(model_tokenizer(model), text, strlen(text), how, &ids, &err),
                     OK);

    struct recording_options opt = {
        .num_tokens_max = NUM_TOKENS,
        .first_prompt_index = UINT32_MAX,
        .vocab_size = model_config(model)->vocab_size,
    };
    struct recording *r = NULL;
    assert_int_equal(recording_create(&opt, &r, &err), OK);
    struct engine_request rq = {.prompt = ids.data, .num_prompt = (uint32_t)ids.len};
    sampling_params_init(&rq.sampling);
    rq.sampling.temperature = number % 2 ? 0.9f : 0;
    rq.sampling.has_seed = true;
    rq.sampling.seed = (uint64_t)number;
    rq.sampling.num_logprobs = 0;
    rq.sampling.max_tokens = NUM_TOKENS;
    recording_attach(r, &rq);
    uint64_t id;
    if (engine_submit(e, &rq, &id, &err))
        fail_msg("engine_submit: %s", err.text);
    return r;
}

static void take(struct recording *r, struct answer *a) {
    struct recorded_token t;
    for (a->num = 0; recording_wait(r, a->num, &t); a->num++) {
        a->ids[a->num] = t.id;
        a->logprobs[a->num] = t.logprob;
    }
    recording_finish(r);
    recording_destroy(r);
}

static void requests_together_get_what_each_gets_alone(void **state) {
    if (!model)
        skip();
    static struct answer alone[REQUESTS], together;
    struct engine *e = new_engine(&(struct engine_options){
        .num_threads = 1, .max_model_len = MODEL_LEN, .disable_prefix_caching = true});
    for (int i = 0; i < REQUESTS; i++)
        take(ask(e, i), &alone[i]);
    engine_destroy(e);

    const struct engine_options crowded[] = {
        {.num_threads = 2, .max_model_len = MODEL_LEN},
        /* 240 positions for 8 at once, in steps of 13: chunks, preemption, reuse */
        {.num_threads = 2,
         .max_model_len = MODEL_LEN,
         .max_num_seqs = 8,
         .max_num_batched_tokens = 13,
         .block_size = 8,
         .kv_cache_bytes = 30 * runner_kv_block_bytes(model_config(model), 8)},
    };
    for (size_t o = 0; o < ARRAY_LEN(crowded); o++) {
        struct recording *r[REQUESTS];
        e = new_engine(&crowded[o]);
        for (int i = 0; i < REQUESTS; i++)
            r[i] = ask(e, i);
        for (int i = 0; i < REQUESTS; i++) {
            take(r[i], &together);
            assert_int_equal(together.num, alone[i].num);
            assert_memory_equal(together.ids, alone[i].ids, together.num * sizeof(int32_t));
            assert_memory_equal(together.logprobs, alone[i].logprobs, together.num * sizeof(float));
        }
        struct engine_stats stats;
        engine_stats(e, &stats);
        assert_true(stats.prefix_hits_total > 0);
        assert_true(o == 0 || stats.preemptions_total > 0);
        assert_int_equal(stats.num_blocks_used, 0);
        engine_destroy(e);
    }
}

static void open_at(const char *path) {
    struct error err = ERROR_INIT;
    if (model_open(path, &model, &err))
        fail_msg("model_open: %s", err.text);
}

static int open_tiny(void **state) {
    char *path = tiny_model_write();
    open_at(path);
    unlink(path); /* it stays mapped */
    free(path);
    return 0;
}

static int open_trained(void **state) {
    AUTO_FREE char *path = shared_data_path("data/models/stories260K/stories260K.gguf");
    if (path)
        open_at(path);
    return 0;
}

static int close_model(void **state) {
    model_close(steal(model));
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_together_get_what_each_gets_alone),
    };
    int failed = cmocka_run_group_tests_name("tiny", tests, open_tiny, close_model);
    return failed + cmocka_run_group_tests_name("stories260K", tests, open_trained, close_model);
}
