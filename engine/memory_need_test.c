/* What a replica is said to take: what the headers say is what the opened model has, options and
 * free memory are heeded as the engine heeds them, and files that change or lie do no harm. That
 * the sum is what a process uses is tests/it_memory.py's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/engine_args.h"
#include "engine/cpu/kernels.h"
#include "engine/engine_limits.h"
#include "engine/memory_need.h"
#include "engine/model_fixture.h"
#include "engine/runner.h"
#include "engine/weights.h"

static const struct model_shape shape = {"llama", 2, 64, 4, 2, 16, 96, 77, .q8_0 = true};

static struct model_footprint footprint(const char *path) {
    struct model_footprint f;
    struct error err = ERROR_INIT;
    if (model_footprint_read(path, &f, &err))
        fail_msg("%s", err.text);
    return f;
}

/* The headers' figures against those of the model, opened. */
static void check_footprint(const char *path) {
    struct error err = ERROR_INIT;
    AUTO(model) m = NULL;
    struct model_footprint f = footprint(path);
    if (model_open(path, &m, &err))
        fail_msg("%s", err.text);
    const struct model_config *c = model_config(m);
    const struct weights *w = model_weights(m);
    uint64_t embedding = (uint64_t)w->embedding.rows * w->embedding.row_bytes;
    assert_int_equal(f.config.num_layers, c->num_layers);
    assert_int_equal(f.config.context_length, c->context_length);
    assert_int_equal(f.config.vocab_size, c->vocab_size);
    assert_int_equal(f.file_bytes, c->weights_bytes);
    assert_int_equal(runner_kv_block_bytes(&f.config, 16), runner_kv_block_bytes(c, 16));
    /* Every byte of the file counts once; vectors of 16 bits are twice as wide in memory. */
    assert_true(f.mapped_bytes >= embedding);
    assert_in_range(f.packable_bytes + f.mapped_bytes + f.vector_bytes, f.file_bytes,
                    f.file_bytes + f.vector_bytes / 2);
    if (cpu_kernels_best()->packed_matmul && f.packed_bytes) {
        uint64_t has = runner_model_bytes(m); /* each matrix begins at a multiple of 64 */
        assert_in_range(has, f.packed_bytes, f.packed_bytes + 64 * (7 * c->num_layers + 1));
    }
}

static void headers_say_what_the_opened_model_has(void **state) {
    for (int i = 0; i < 6; i++) {
        struct model_shape s = shape;
        struct model_fixture f;
        s.tied = i & 1;
        s.q8_0 = i < 2;
        s.bf16 = true;
        s.num_shards = i == 5 ? 3 : 0;
        model_fixture_init(&f, s);
        if (i < 4) {
            AUTO_FREE char *path = fixture_write_gguf(&f);
            check_footprint(path);
        } else {
            fixture_write_dir(&f);
            check_footprint(f.dir);
        }
        model_fixture_deinit(&f);
    }
}

static struct memory_need compute(const struct model_footprint *f, struct engine_options opt,
                                  uint64_t free_bytes) {
    struct memory_need need;
    struct error err = ERROR_INIT;
    if (memory_need_compute(f, &opt, free_bytes, &need, &err))
        fail_msg("%s", err.text);
    return need;
}

static void options_and_free_memory_decide_as_in_the_engine(void **state) {
    struct model_fixture m;
    struct memory_need need;
    struct error err = ERROR_INIT;
    model_fixture_init(&m, shape);
    AUTO_FREE char *path = fixture_write_gguf(&m);
    struct model_footprint f = footprint(path);
    uint64_t block = runner_kv_block_bytes(&f.config, 16);
    struct memory_need plenty = compute(&f, (struct engine_options){0}, UINT64_MAX);
    assert_int_equal(plenty.max_model_len, 512);
    assert_int_equal(plenty.kv_cache_bytes, 16 * 32 * block); /* a quarter of 64 whole contexts */
    struct memory_need few =
        compute(&f, (struct engine_options){.max_model_len = 64, .max_num_seqs = 8}, UINT64_MAX);
    assert_int_equal(few.kv_cache_bytes, 2 * 4 * block);
    assert_true(few.requests_bytes < plenty.requests_bytes);
    assert_true(few.workspace_bytes < plenty.workspace_bytes);
    assert_int_equal(few.weights_bytes + few.file_bytes, plenty.weights_bytes + plenty.file_bytes);
    need = compute(&f, (struct engine_options){.kv_cache_bytes = 100 * block}, 0);
    assert_int_equal(need.kv_cache_bytes, 100 * block);
    need = compute(&f, (struct engine_options){0}, f.packed_bytes + 2 * 40 * block);
    assert_in_range(need.kv_cache_bytes, 40 * block, 41 * block); /* half of what is free */
    need = compute(&f, (struct engine_options){.reference = true}, UINT64_MAX);
    assert_int_equal(need.weights_bytes, 0); /* it multiplies where the file has them */
    assert_int_equal(need.file_bytes, f.packable_bytes + f.mapped_bytes);
    struct engine_options exact = {.max_model_len = 512};
    assert_int_equal(memory_need_compute(&f, &exact, 4 * block, &need, &err), ERR_EXHAUSTED);
    exact.max_model_len = 513;
    assert_int_equal(memory_need_compute(&f, &exact, UINT64_MAX, &need, &err), ERR_INVALID);
    assert_string_equal(err.field, "max_model_len");
    model_fixture_deinit(&m);
}

static void what_is_measured_replaces_what_stands_for_the_process(void **state) {
    const struct memory_need need = {.weights_bytes = 1 << 20,
                                     .file_bytes = 2 << 20,
                                     .kv_cache_bytes = 4 << 20,
                                     .workspace_bytes = 8 << 20,
                                     .requests_bytes = 16 << 20,
                                     .process_bytes = 32 << 20};
    assert_int_equal(memory_need_total(&need), 63 << 20);
    /* 40 MiB are there with weights and tokenizer; the rest is still to come. */
    assert_int_equal(memory_need_measured(&need, 40 << 20), 70 << 20);
}

static void a_file_that_is_cut_short_or_none_is_an_error(void **state) {
    struct model_fixture m;
    struct model_footprint f;
    model_fixture_init(&m, shape);
    AUTO_FREE char *path = fixture_write_gguf(&m);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t len = st.st_size - 1; len > 0; len /= 2) {
        struct error err = ERROR_INIT;
        assert_int_equal(truncate(path, len), 0);
        assert_int_equal(model_footprint_read(path, &f, &err), ERR_MALFORMED);
        assert_non_null(strstr(err.text, path));
    }
    struct error err = ERROR_INIT;
    assert_int_equal(model_footprint_read("no/such.gguf", &f, &err), ERR_NOT_FOUND);
    assert_int_equal(model_footprint_read("embedded://no-such", &f, &err), ERR_NOT_FOUND);
    model_fixture_deinit(&m);
}

static struct memory_need ask(struct memory_gauge *g, const char *path) {
    struct engine_args args = {0};
    struct memory_need need;
    struct error err = ERROR_INIT;
    if (memory_gauge_need(g, path, &args, UINT64_MAX, &need, &err))
        fail_msg("%s", err.text);
    return need;
}

static void a_gauge_remembers_a_file_until_it_changes(void **state) {
    struct model_fixture m;
    struct model_shape larger = shape;
    AUTO(memory_gauge) g = memory_gauge_create();
    larger.layers = 4;
    model_fixture_init(&m, shape);
    AUTO_FREE char *path = fixture_write_gguf(&m);
    uint64_t was = memory_need_total(&(struct memory_need){0}), first;
    first = memory_need_total((struct memory_need[]){ask(g, path)});
    assert_true(first > was);
    assert_int_equal(memory_need_total((struct memory_need[]){ask(g, path)}), first);
    struct model_fixture other;
    model_fixture_init(&other, larger);
    AUTO_FREE char *other_path = fixture_write_gguf(&other);
    assert_int_equal(rename(other_path, path), 0);
    assert_true(memory_need_total((struct memory_need[]){ask(g, path)}) > first);
    /* More models than it remembers, under names of their own. */
    for (int i = 0; i < MEMORY_GAUGE_MODELS_MAX + 8; i++) {
        AUTO_FREE char *name = mem_printf("%s/link%d.gguf", other.dir, i);
        assert_int_equal(link(path, name), 0);
        assert_true(memory_need_total((struct memory_need[]){ask(g, name)}) > first);
        unlink(name);
    }
    struct engine_args args = {0};
    struct memory_need need;
    struct error err = ERROR_INIT;
    unlink(path);
    assert_int_equal(memory_gauge_need(g, path, &args, UINT64_MAX, &need, &err), ERR_NOT_FOUND);
    model_fixture_deinit(&m);
    model_fixture_deinit(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_say_what_the_opened_model_has),
        cmocka_unit_test(options_and_free_memory_decide_as_in_the_engine),
        cmocka_unit_test(what_is_measured_replaces_what_stands_for_the_process),
        cmocka_unit_test(a_file_that_is_cut_short_or_none_is_an_error),
        cmocka_unit_test(a_gauge_remembers_a_file_until_it_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
