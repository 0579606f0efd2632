/* Every tokenizer vector in the shared data: ids that other programs gave for real vocabularies.
 * Skipped, by name, where the data is absent ($INFERD_SHARED, default ../shared). */
#include "engine/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>

#include "engine/gguf.h"
#include "engine/shared_data.h"

/* The path of a shared file; ends the test as skipped where it is absent. */
static const char *need(const char *name, char path[4096]) {
    AUTO_FREE char *found = shared_data_path(name);
    if (!found)
        skip();
    snprintf(path, 4096, "%s", found);
    return path;
}

static struct tokenizer *open_gguf(const char *path) {
    struct error err = ERROR_INIT;
    AUTO(gguf) g = NULL;
    struct tokenizer *tk = NULL;
    if (gguf_open(path, &g, &err) || tokenizer_from_gguf(g, &tk, &err))
        fail_msg("%s: %s", path, err.text);
    return tk;
}

static json_t *load_json(const char *name) {
    char path[4096];
    json_error_t why;
    json_t *doc = json_load_file(need(name, path), JSON_ALLOW_NUL, &why);
    if (!doc)
        fail_msg("%s: %s", path, why.text);
    return doc;
}

static void print_ids(const char *label, const int32_t *ids, size_t len) {
    AUTO_BUF line = BUF_INIT;
    for (size_t i = 0; i < len; i++)
        buf_printf(&line, " %d", ids[i]);
    print_message("  %s:%s\n", label, line.data ? line.data : "");
}

/* Encodes and compares; returns the number of mismatches, 0 or 1. */
static int check_ids(const struct tokenizer *tk, const char *text, size_t len,
                     struct tokenizer_encode_options opt, const struct token_ids *want) {
    struct error err = ERROR_INIT;
    AUTO_TOKEN_IDS got = TOKEN_IDS_INIT;
    if (tokenizer_encode(tk, text, len, opt, &got, &err))
        fail_msg("encode: %s", err.text);
    if (got.len == want->len && (!got.len || !memcmp(got.data, want->data, got.len * 4)))
        return 0;
    print_message("differs: \"%.*s\"\n", (int)len, text);
    print_ids("want", want->data, want->len);
    print_ids("got ", got.data, got.len);
    return 1;
}

static struct token_ids ids_of(const json_t *array) {
    struct token_ids ids = TOKEN_IDS_INIT;
    for (size_t i = 0; i < json_array_size(array); i++)
        token_ids_push(&ids, (int32_t)json_integer_value(json_array_get(array, i)));
    return ids;
}

static int check_json(const struct tokenizer *tk, const json_t *text, const json_t *ids,
                      struct tokenizer_encode_options opt) {
    AUTO_TOKEN_IDS want = ids_of(ids);
    return check_ids(tk, json_string_value(text), json_string_length(text), opt, &want);
}

/* NAME.gguf.inp and NAME.gguf.out of ggml-vocab, on any tokenizer. */
static void check_ggml_vocab(const struct tokenizer *tk, const char *name) {
    char path[4096], file[256];
    snprintf(file, sizeof(file), "data/tokenizers/ggml-vocab/ggml-vocab-%s.gguf.inp", name);
    FILE *in = fopen(need(file, path), "r");
    snprintf(file, sizeof(file), "data/tokenizers/ggml-vocab/ggml-vocab-%s.gguf.out", name);
    FILE *out = fopen(need(file, path), "r");
    assert_non_null(in);
    assert_non_null(out);
    AUTO_BUF texts = BUF_INIT;
    char block[4096];
    for (size_t n; (n = fread(block, 1, sizeof(block), in));)
        buf_append(&texts, block, n);
    static const char mark[] = "\n__ggml_vocab_test__\n";
    int bad = 0, num = 0;
    char *line = NULL;
    size_t cap = 0;
    for (char *at = texts.data, *end; getline(&line, &cap, out) > 0; at = end + strlen(mark)) {
        end = strstr(at, mark);
        assert_non_null(end);
        AUTO_TOKEN_IDS want = TOKEN_IDS_INIT;
        char *rest = NULL;
        for (char *id = strtok_r(line, " \n", &rest); id; id = strtok_r(NULL, " \n", &rest))
            token_ids_push(&want, (int32_t)strtol(id, NULL, 10));
        bad += check_ids(tk, at, (size_t)(end - at), (struct tokenizer_encode_options){0}, &want);
        num++;
    }
    free(line);
    fclose(in);
    fclose(out);
    print_message("%s: %d texts of ggml-vocab, %d differ\n", name, num, bad);
    assert_int_equal(bad, 0);
    assert_int_equal(num, 46);
}

static void check_vectors(const struct tokenizer *tk, const char *name) {
    char file[256];
    snprintf(file, sizeof(file), "data/tokenizers/vectors/%s.json", name);
    json_t *doc = load_json(file), *cases = json_object_get(doc, "cases");
    int bad = 0, lossy = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *c = json_array_get(cases, i), *text = json_array_get(c, 0);
        bad += check_json(tk, text, json_array_get(c, 1), (struct tokenizer_encode_options){0});
        AUTO_TOKEN_IDS ids = ids_of(json_array_get(c, 1));
        AUTO_BUF back = BUF_INIT;
        tokenizer_decode(tk, ids.data, ids.len, true, &back);
        lossy += back.len != json_string_length(text) ||
                 memcmp(back.data, json_string_value(text), back.len) != 0;
    }
    print_message("%s: %zu vectors, %d differ, %d do not decode to the text\n", name,
                  json_array_size(cases), bad, lossy);
    assert_int_equal(json_array_size(cases), 227);
    assert_int_equal(bad, 0);
    if (strcmp(name, "tinystories-656k") != 0) /* its vocabulary has unknown characters */
        assert_int_equal(lossy, 0);
    json_decref(doc);
}

static int check_decoded(const struct tokenizer *tk, const json_t *pair, const char *field,
                         bool skip_special, bool clean_up) {
    const char *want = json_string_value(json_object_get(pair, field));
    if (!want) /* the longest pair of each file has ids only */
        return 0;
    AUTO_TOKEN_IDS ids = ids_of(json_object_get(pair, "ids"));
    AUTO_BUF text = BUF_INIT;
    tokenizer_decode(tk, ids.data, ids.len, skip_special, &text);
    if (clean_up)
        tokenizer_clean_up_spaces(&text);
    buf_puts(&text, "");
    if (!strcmp(text.data, want))
        return 0;
    print_message("%s\n  want: %s\n  got:  %s\n", field, want, text.data);
    return 1;
}

static void check_pairs(const struct tokenizer *tk, const char *name, bool clean_up) {
    char file[256];
    snprintf(file, sizeof(file), "data/tokenizers/pairs/%s.json", name);
    json_t *doc = load_json(file);
    struct tokenizer_encode_options opt = {.add_special = true, .parse_special = true};
    int bad = 0;
    for (size_t i = 0; i < json_array_size(doc); i++) {
        json_t *pair = json_array_get(doc, i);
        bad += check_json(tk, json_object_get(pair, "input"), json_object_get(pair, "ids"), opt);
        bad += check_decoded(tk, pair, "decoded_with_special", false, clean_up);
        bad += check_decoded(tk, pair, "decoded_without_special", true, clean_up);
    }
    print_message("%s: %zu pairs, %d differ\n", name, json_array_size(doc), bad);
    assert_int_equal(json_array_size(doc), 10);
    assert_int_equal(bad, 0);
    json_decref(doc);
}

static struct tokenizer *open_vocab(const char *name) {
    char path[4096], file[256];
    snprintf(file, sizeof(file), "data/tokenizers/ggml-vocab/ggml-vocab-%s.gguf", name);
    return open_gguf(need(file, path));
}

static void gpt2_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("gpt-2");
    check_ggml_vocab(tk, "gpt-2");
    check_vectors(tk, "gpt-2");
    check_pairs(tk, "gpt-2", true);
}

static void falcon_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("falcon");
    check_ggml_vocab(tk, "falcon");
    check_vectors(tk, "falcon");
    check_pairs(tk, "falcon", true);
}

static void starcoder_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("starcoder");
    check_ggml_vocab(tk, "starcoder");
    check_vectors(tk, "starcoder");
}

static void deepseek_coder_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("deepseek-coder");
    check_ggml_vocab(tk, "deepseek-coder");
    check_vectors(tk, "deepseek-coder");
}

static void llama_spm_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("llama-spm");
    check_ggml_vocab(tk, "llama-spm");
    check_vectors(tk, "llama-spm");
    check_pairs(tk, "llama-2", false);
}

static void bert_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_vocab("bert-bge");
    check_ggml_vocab(tk, "bert-bge");
    check_pairs(tk, "bert-base-uncased", false);
}

static struct tokenizer *open_dir(const char *name) {
    char path[4096];
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    if (tokenizer_from_dir(need(name, path), &tk, &err))
        fail_msg("%s", err.text);
    return tk;
}

static void llama3_json_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_dir("data/tokenizers/llama-3");
    assert_int_equal(tokenizer_bos(tk), 128000);
    assert_int_equal(tokenizer_eos(tk), 128001);
    assert_true(tokenizer_is_eog(tk, 128009)); /* <|eot_id|> */
    assert_true(tokenizer_adds_bos(tk));
    check_ggml_vocab(tk, "llama-bpe");
    check_vectors(tk, "llama-3");
    check_pairs(tk, "llama-3", true);
}

static struct tokenizer *open_file(const char *name) {
    char path[4096];
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    if (tokenizer_from_file(need(name, path), &tk, &err))
        fail_msg("%s", err.text);
    return tk;
}

static void llama3_ranks_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_file("data/tokenizers/llama-3/tokenizer.model");
    assert_int_equal(tokenizer_vocab_size(tk), 128256);
    assert_true(tokenizer_is_eog(tk, 128009));
    check_ggml_vocab(tk, "llama-bpe");
    check_vectors(tk, "llama-3");
    check_pairs(tk, "llama-3", true);
}

static void llama2_sentencepiece_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_dir("data/tokenizers/llama-2");
    assert_int_equal(tokenizer_bos(tk), 1);
    check_ggml_vocab(tk, "llama-spm");
    check_vectors(tk, "llama-spm");
    check_pairs(tk, "llama-2", false);
}

static void tinystories_json_vectors_match(void **state) {
    AUTO(tokenizer) tk = open_dir("data/models/tinystories-656k");
    assert_int_equal(tokenizer_bos(tk), 1);
    assert_int_equal(tokenizer_eos(tk), 2);
    check_vectors(tk, "tinystories-656k");
}

/* Makes the model that a golden file names, with the smallest weights there are, because only its
 * tokenizer counts here, and opens that. */
static struct tokenizer *make_model(const char *arguments) {
    char tool[4096], path[] = "/tmp/inferd-tokenizer-XXXXXX";
    need("tools/make_gguf", tool);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    AUTO_FREE char *command = mem_printf(
        "'%s' %s --layers 1 --embd 32 --heads 1 --kv-heads 1 --head-dim 32 --ffn 32 -o %s "
        ">/dev/null",
        tool, arguments, path);
    if (system(command)) {
        unlink(path);
        print_message("skipped: make_gguf cannot run\n");
        skip();
    }
    struct tokenizer *tk = open_gguf(path);
    unlink(path);
    return tk;
}

/* Ill-formed UTF-8: byte-level vocabularies agree with the recorded choice, a U+FFFD per bad byte;
 * SentencePiece ones keep the bytes, so the text comes back as it was. */
static void check_invalid_utf8(const struct tokenizer *tk, const json_t *cases, bool spm) {
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *hex = json_string_value(json_object_get(c, "hex"));
        AUTO_BUF text = BUF_INIT;
        for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
            buf_putc(&text, (char)byte);
        struct tokenizer_encode_options opt = {.parse_special = true};
        if (!spm) {
            AUTO_TOKEN_IDS want = ids_of(json_object_get(c, "ids"));
            assert_int_equal(check_ids(tk, text.data, text.len, opt, &want), 0);
            continue;
        }
        struct error err = ERROR_INIT;
        AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
        AUTO_BUF back = BUF_INIT;
        assert_int_equal(tokenizer_encode(tk, text.data, text.len, opt, &ids, &err), OK);
        tokenizer_decode(tk, ids.data, ids.len, true, &back);
        assert_int_equal(back.len, text.len);
        assert_memory_equal(back.data, text.data, text.len);
    }
}

static void check_golden(const char *name) {
    char file[256];
    snprintf(file, sizeof(file), "data/golden/tokenizer-%s-seed1.json", name);
    json_t *doc = load_json(file), *cases = json_object_get(doc, "cases");
    AUTO(tokenizer) tk = make_model(json_string_value(json_object_get(doc, "make_gguf")));
    const json_t *vocab = json_object_get(doc, "vocab");
    assert_int_equal(tokenizer_vocab_size(tk), json_integer_value(json_object_get(vocab, "vocab")));
    assert_int_equal(tokenizer_bos(tk), json_integer_value(json_object_get(vocab, "bos")));
    assert_int_equal(tokenizer_eos(tk), json_integer_value(json_object_get(vocab, "eos")));
    int bad = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        struct tokenizer_encode_options opt = {
            .add_special = json_is_true(json_object_get(c, "add_special")),
            .parse_special = json_is_true(json_object_get(c, "parse_special"))};
        bad += check_json(tk, json_object_get(c, "text"), json_object_get(c, "ids"), opt);
    }
    print_message("golden %s: %zu cases, %d differ\n", name, json_array_size(cases), bad);
    assert_int_equal(bad, 0);
    check_invalid_utf8(tk, json_object_get(doc, "invalid_utf8"), !strncmp(name, "spm", 3));
    json_decref(doc);
}

static void golden_tokenizers_match(void **state) {
    static const char *const names[] = {"gpt-2-1024", "llama-bpe-1024", "qwen2-1024", "spm-1024",
                                        "gpt-2-8192", "llama-bpe-8192", "qwen2-8192", "spm-8192"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        check_golden(names[i]);
}

static void golden_chat_prompts_match(void **state) {
    json_t *doc = load_json("data/golden/chat-prompts.json");
    const json_t *cases = json_object_get(doc, "cases");
    AUTO(tokenizer) tk = NULL;
    const char *made = "";
    struct tokenizer_encode_options opt = {.add_special = true, .parse_special = true};
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *arguments = json_string_value(json_object_get(c, "make_gguf"));
        if (strcmp(arguments, made) != 0) {
            tokenizer_destroy(tk);
            tk = make_model(arguments);
            made = arguments;
            assert_non_null(tokenizer_chat_template(tk));
        }
        assert_int_equal(check_json(tk, json_object_get(c, "prompt"),
                                    json_object_get(c, "ids_with_parse_special"), opt),
                         0);
    }
    json_decref(doc);
}

static void golden_models_prompts_match(void **state) {
    static const char *const names[] = {"llama-f16-seed1", "llama-f16-spm-seed1",
                                        "llama-q8_0-odd-seed1", "qwen2-f16-seed1",
                                        "qwen3-f16-seed1"};
    struct tokenizer_encode_options opt = {.add_special = true, .parse_special = true};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char file[256];
        snprintf(file, sizeof(file), "data/golden/tiny-%s.json", names[i]);
        json_t *doc = load_json(file), *prompts = json_object_get(doc, "prompts");
        AUTO(tokenizer) tk = make_model(json_string_value(json_object_get(doc, "make_gguf")));
        assert_int_equal(json_array_size(prompts), 5);
        for (size_t k = 0; k < json_array_size(prompts); k++) {
            const json_t *p = json_array_get(prompts, k);
            assert_int_equal(
                check_json(tk, json_object_get(p, "text"), json_object_get(p, "ids"), opt), 0);
        }
        json_decref(doc);
    }
}

/* The prompts of the recorded generations, and their text, streamed. */
static void trained_models_prompts_match(void **state) {
    static const char *const names[][2] = {
        {"data/models/stories260K/stories260K.gguf", "data/models/stories260K/expected.json"},
        {"data/models/tinystories-656k/tinystories-656k-f32.gguf",
         "data/models/tinystories-656k/expected.json"},
        {"data/models/tinystories-656k/tinystories-656k-q8_0.gguf",
         "data/models/tinystories-656k/expected-q8_0.json"},
    };
    struct tokenizer_encode_options opt = {.add_special = true, .parse_special = true};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[4096];
        AUTO(tokenizer) tk = open_gguf(need(names[i][0], path));
        json_t *doc = load_json(names[i][1]), *cases = json_object_get(doc, "cases");
        for (size_t k = 0; k < json_array_size(cases); k++) {
            const json_t *c = json_array_get(cases, k);
            assert_int_equal(check_json(tk, json_object_get(c, "prompt"),
                                        json_object_get(c, "prompt_tokens"), opt),
                             0);
            AUTO_TOKEN_IDS ids = ids_of(json_object_get(c, "greedy_tokens"));
            struct detokenizer d;
            AUTO_BUF text = BUF_INIT;
            detokenizer_init(&d, tk, true);
            d.started = true;
            for (size_t t = 0; t < ids.len; t++)
                detokenizer_push(&d, ids.data[t], &text);
            detokenizer_flush(&d, &text);
            assert_string_equal(text.data, json_string_value(json_object_get(c, "text")));
        }
        json_decref(doc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vectors_match),
        cmocka_unit_test(falcon_vectors_match),
        cmocka_unit_test(starcoder_vectors_match),
        cmocka_unit_test(deepseek_coder_vectors_match),
        cmocka_unit_test(llama_spm_vectors_match),
        cmocka_unit_test(bert_vectors_match),
        cmocka_unit_test(llama3_json_vectors_match),
        cmocka_unit_test(llama3_ranks_vectors_match),
        cmocka_unit_test(llama2_sentencepiece_vectors_match),
        cmocka_unit_test(tinystories_json_vectors_match),
        cmocka_unit_test(golden_tokenizers_match),
        cmocka_unit_test(golden_chat_prompts_match),
        cmocka_unit_test(golden_models_prompts_match),
        cmocka_unit_test(trained_models_prompts_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
