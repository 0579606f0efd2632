/* Opening models: both formats mean the same, and what is missing, lying or unknown is refused by
 * the name of file, tensor or key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/model_fixture.h"
#include "engine/runner_fixture.h"
#include "engine/tokenizer.h"

enum { VOCAB = 77, LEN = 40 };

static const struct model_shape llama = {"llama", 2, 64, 4, 2, 16, 96, VOCAB, .tied = false};

static void check_part(const char *text, const char *part) {
    if (!strstr(text, part))
        fail_msg("\"%s\" does not hold \"%s\"", text, part);
}

static void check_refused(const char *path, enum errc code, const char *part) {
    struct error err = ERROR_INIT;
    struct model *m = NULL;
    enum errc rc = model_open(path, &m, &err);
    if (rc != code)
        fail_msg("%s instead of %s: %s", errc_name(rc), errc_name(code), err.text);
    assert_null(m);
    check_part(err.text, part);
}

static float *logits_of(const char *path) {
    struct fixture_seq seq = {.num_ids = LEN};
    AUTO(model) m = fixture_model(path);
    AUTO(runner) r = fixture_runner(m, false, 1);
    float *logits = mem_array((size_t)LEN * VOCAB, sizeof(*logits));
    for (int32_t i = 0; i < LEN; i++)
        seq.ids[i] = i * i % VOCAB;
    fixture_forward(r, &(struct fixture_part){&seq, LEN, true}, 1, logits);
    return logits;
}

/* ---- one model in two forms ---- */

static void check_forms(struct model_shape shape) {
    struct model_fixture f;
    model_fixture_init(&f, shape);
    AUTO_FREE char *gguf = fixture_write_gguf(&f);
    fixture_write_dir(&f);
    AUTO_FREE float *want = logits_of(gguf);
    AUTO_FREE float *got = logits_of(f.dir);
    for (uint32_t i = 0; i < LEN * VOCAB; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-4f))
            fail_msg("%s: position %u: %f, from GGUF %f", shape.arch, i / VOCAB, (double)got[i],
                     (double)want[i]);
    model_fixture_deinit(&f);
}

static void gguf_and_directory_give_the_same_logits(void **state) {
    struct model_shape shape = llama;
    check_forms(shape);
    shape.tied = true;
    shape.num_shards = 3;
    check_forms(shape);
    shape.bf16 = true;
    check_forms(shape);
    shape.arch = "qwen2";
    check_forms(shape);
    shape.arch = "qwen3";
    shape.window = 11;
    shape.extra_config = "\"use_sliding_window\": true, \"sliding_window\": 11, "
                         "\"max_window_layers\": 0,";
    check_forms(shape);
}

static void the_configuration_is_reported(void **state) {
    struct model_fixture f;
    struct model_shape shape = llama;
    shape.q8_0 = true;
    model_fixture_init(&f, shape);
    AUTO_FREE char *path = fixture_write_gguf(&f);
    AUTO(model) m = fixture_model(path);
    const struct model_config *c = model_config(m);
    assert_int_equal(c->arch, MODEL_LLAMA);
    assert_string_equal(c->arch_name, "llama");
    assert_string_equal(c->name, "fixture");
    assert_string_equal(c->weights_type, "Q8_0");
    assert_int_equal(c->vocab_size, VOCAB);
    assert_int_equal(c->context_length, 512);
    assert_int_equal(c->head_dim, 16);
    uint64_t layer = 64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3 + 2 * 64;
    assert_int_equal(c->num_parameters, 2 * layer + 2 * VOCAB * 64 + 64);
    assert_null(model_tokenizer(m));
    assert_true(model_generation(m)->temperature < 0);
    model_fixture_deinit(&f);
}

static void generation_config_is_read(void **state) {
    struct model_fixture f;
    static const char text[] = "{\"temperature\": 0.6, \"top_k\": 20, \"top_p\": null}";
    model_fixture_init(&f, llama);
    fixture_write_dir(&f);
    free(fixture_write_file(&f, "generation_config.json", text, strlen(text)));
    AUTO(model) m = fixture_model(f.dir);
    assert_true(model_generation(m)->temperature == 0.6f);
    assert_int_equal(model_generation(m)->top_k, 20);
    assert_true(model_generation(m)->top_p < 0);
    model_fixture_deinit(&f);
}

/* ---- refusals: GGUF ---- */

static void a_missing_tensor_is_named(void **state) {
    static const char *const names[] = {"token_embd.weight", "blk.1.attn_k.weight",
                                        "blk.0.ffn_norm.weight", "output_norm.weight"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct model_fixture f;
        struct model_shape shape = llama;
        char part[96];
        shape.skip_tensor = names[i];
        model_fixture_init(&f, shape);
        AUTO_FREE char *path = fixture_write_gguf(&f);
        snprintf(part, sizeof(part), "model.gguf: tensor %s is missing", names[i]);
        check_refused(path, ERR_INVALID, part);
        model_fixture_deinit(&f);
    }
}

/* Writes the sample with one thing more in it. */
static void check_gguf_with(void (*add)(struct gguf_writer *w), enum errc code, const char *part) {
    struct model_fixture f;
    struct gguf_writer w;
    model_fixture_init(&f, llama);
    fixture_fill_gguf(&f, &w);
    add(&w);
    gguf_writer_finish(&w);
    AUTO_FREE char *path = fixture_write_file(&f, "model.gguf", w.file.data, w.file.len);
    check_refused(path, code, part);
    gguf_writer_deinit(&w);
    model_fixture_deinit(&f);
}

static void add_stranger(struct gguf_writer *w) {
    gguf_put_tensor(w, "blk.0.ffn_gate_inp.weight", DTYPE_F32, 1, (const uint64_t[]){4},
                    (const float[4]){0}, 16);
}

static void add_experts(struct gguf_writer *w) {
    gguf_put_u32(w, "llama.expert_count", 8);
}

static void add_split(struct gguf_writer *w) {
    gguf_put_u32(w, "split.count", 3);
}

static void add_scaling(struct gguf_writer *w) {
    gguf_put_string(w, "llama.rope.scaling.type", "longrope");
}

static void add_bad_freqs(struct gguf_writer *w) {
    gguf_put_tensor(w, "rope_freqs.weight", DTYPE_F32, 1, (const uint64_t[]){8},
                    (const float[8]){1, 1, 0}, 32);
}

static void add_odd_rope(struct gguf_writer *w) {
    gguf_put_u32(w, "llama.rope.dimension_count", 18);
}

static void add_many_tokens(struct gguf_writer *w) {
    static const char *tokens[VOCAB + 1];
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        tokens[i] = "t";
    gguf_put_strings(w, "tokenizer.ggml.tokens", ARRAY_LEN(tokens), tokens);
}

static void add_iq_tensor(struct gguf_writer *w) {
    gguf_put_tensor(w, "blk.0.attn_q.bias", 16, 1, (const uint64_t[]){64}, (const float[64]){0},
                    256);
}

static void what_would_run_wrongly_is_refused(void **state) {
    check_gguf_with(add_stranger, ERR_INVALID, "tensor blk.0.ffn_gate_inp.weight at offset ");
    check_gguf_with(add_experts, ERR_INVALID, "key llama.expert_count: a mixture of 8 experts");
    check_gguf_with(add_split, ERR_INVALID, "key split.count: one of 3 files");
    check_gguf_with(add_scaling, ERR_INVALID, "\"longrope\" is not supported");
    check_gguf_with(add_bad_freqs, ERR_INVALID, "a divisor that is not above 0");
    check_gguf_with(add_odd_rope, ERR_INVALID, "rotary dimensions: 18");
    check_gguf_with(add_many_tokens, ERR_INVALID, "78 tokens, but tensor token_embd.weight has 77");
    check_gguf_with(add_iq_tensor, ERR_INVALID,
                    "type IQ2_XXS, shape [1, 64]: the type is not supported; these are: F32, F16");
}

static void a_wrong_shape_is_named_with_the_right_one(void **state) {
    struct model_fixture f;
    model_fixture_init(&f, llama);
    f.tensors[2].rows--; /* blk.0.attn_q.weight */
    f.tensors[2].rotary_heads = 0;
    AUTO_FREE char *path = fixture_write_gguf(&f);
    check_refused(path, ERR_INVALID, "tensor blk.0.attn_q.weight at offset ");
    check_refused(path, ERR_INVALID, "shape [63, 64]: expected shape [64, 64]");
    model_fixture_deinit(&f);
}

static void sizes_out_of_bounds_are_refused(void **state) {
    struct model_shape shape = llama;
    const struct {
        uint32_t *field, value;
        const char *part;
    } cases[] = {
        {&shape.layers, 0, "layers: 0, expected 1 to 1024"},
        {&shape.heads, 3, "3 attention heads are no multiple of 2 key-value heads"},
        {&shape.head_dim, 15, "rotary dimensions: 15"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct model_fixture f;
        uint32_t was = *cases[i].field;
        *cases[i].field = cases[i].value;
        model_fixture_init(&f, shape);
        for (uint32_t t = 0; t < f.num_tensors; t++)
            f.tensors[t].rotary_heads = 0;
        AUTO_FREE char *path = fixture_write_gguf(&f);
        check_refused(path, ERR_INVALID, cases[i].part);
        model_fixture_deinit(&f);
        *cases[i].field = was;
    }
}

static void an_unknown_architecture_is_refused_with_the_list(void **state) {
    struct model_fixture f;
    struct model_shape shape = llama;
    shape.arch = "mamba";
    model_fixture_init(&f, shape);
    AUTO_FREE char *path = fixture_write_gguf(&f);
    fixture_write_dir(&f);
    check_refused(path, ERR_INVALID,
                  "\"mamba\" is not supported; supported are: llama (also Mistral), qwen2, qwen3");
    check_refused(f.dir, ERR_INVALID, "config.json: model_type: \"mamba\" is not supported");
    model_fixture_deinit(&f);
}

/* ---- refusals: directories ---- */

static void config_keys_that_change_the_mathematics_are_refused(void **state) {
    static const struct {
        const char *config, *part;
    } cases[] = {
        {"\"hidden_act\": \"gelu\",", "hidden_act: \"gelu\" is not supported"},
        {"\"mlp_bias\": true,", "mlp_bias: true is not supported"},
        {"\"quantization_config\": {\"bits\": 4},", "quantization_config"},
        {"\"rope_scaling\": {\"rope_type\": \"dynamic\"},", "type \"dynamic\" is not supported"},
        {"\"rope_scaling\": 7,", "rope_scaling: expected an object"},
        {"\"rope_theta\": \"big\",", "rope_theta: expected a number"},
        {"\"rope_theta\": -1,", "rotary base: -1"},
        {"\"partial_rotary_factor\": 0.5,", "partial_rotary_factor: expected 1"},
        {"\"architectures\": [\"LlamaForSequenceClassification\"],",
         "\"LlamaForSequenceClassification\" is not supported"},
        {"\"hidden_size\": 64,", "duplicate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct model_fixture f;
        struct model_shape shape = llama;
        shape.extra_config = cases[i].config;
        model_fixture_init(&f, shape);
        fixture_write_dir(&f);
        check_refused(f.dir, i == ARRAY_LEN(cases) - 1 ? ERR_MALFORMED : ERR_INVALID,
                      cases[i].part);
        model_fixture_deinit(&f);
    }
}

static void a_directory_without_its_files_says_which(void **state) {
    struct model_fixture f;
    struct model_shape shape = llama;
    shape.num_shards = 2;
    model_fixture_init(&f, shape);
    check_refused(f.dir, ERR_NOT_FOUND, "config.json: no such file");
    fixture_write_config(&f);
    check_refused(f.dir, ERR_NOT_FOUND, "neither model.safetensors nor");
    fixture_write_dir(&f);
    AUTO_FREE char *shard = mem_printf("%s/1.safetensors", f.dir);
    unlink(shard);
    check_refused(f.dir, ERR_NOT_FOUND, "1.safetensors: no such file");
    fixture_write_shard(&f, 0, 2, "1.safetensors"); /* the same tensors again */
    check_refused(f.dir, ERR_MALFORMED, "stands in");
    model_fixture_deinit(&f);
}

static void only_a_tied_model_may_lack_a_head(void **state) {
    struct model_fixture f;
    struct model_shape shape = llama;
    shape.skip_tensor = "output.weight";
    model_fixture_init(&f, shape);
    fixture_write_dir(&f);
    check_refused(f.dir, ERR_INVALID, "tensor lm_head.weight is missing");
    model_fixture_deinit(&f);
}

static void other_paths_are_refused(void **state) {
    check_refused("embedded://nobody", ERR_NOT_FOUND,
                  "embedded://nobody: this program holds no such model; it holds: ");
    check_refused("no/such/model.gguf", ERR_NOT_FOUND, "no/such/model.gguf: no such file");
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    assert_int_equal(model_open_tokenizer("no/such/model.gguf", &tk, &err), ERR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_and_directory_give_the_same_logits),
        cmocka_unit_test(the_configuration_is_reported),
        cmocka_unit_test(generation_config_is_read),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(what_would_run_wrongly_is_refused),
        cmocka_unit_test(a_wrong_shape_is_named_with_the_right_one),
        cmocka_unit_test(sizes_out_of_bounds_are_refused),
        cmocka_unit_test(an_unknown_architecture_is_refused_with_the_list),
        cmocka_unit_test(config_keys_that_change_the_mathematics_are_refused),
        cmocka_unit_test(a_directory_without_its_files_says_which),
        cmocka_unit_test(only_a_tied_model_may_lack_a_head),
        cmocka_unit_test(other_paths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
