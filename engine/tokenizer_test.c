/* Tokenizer: both walks over small GGUF vocabularies made here, and vocabularies that lie. */
#include "engine/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "engine/tokenizer_fixtures.h"

static const struct tokenizer_encode_options plain = {0}, parse = {.parse_special = true};

static struct tokenizer *open_byte_level(struct fixture *f, const char *pre) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    gguf_writer_init(&w);
    fixture_byte_level(f);
    fixture_put_byte_level(&w, f, pre);
    if (fixture_open(&w, &tk, &err))
        fail_msg("%s", err.text);
    return tk;
}

static struct tokenizer *open_spm(struct fixture *f, const char *flag, bool value) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    gguf_writer_init(&w);
    fixture_spm(f);
    fixture_put_spm(&w, f);
    if (flag)
        fixture_put_bool(&w, flag, value);
    if (fixture_open(&w, &tk, &err))
        fail_msg("%s", err.text);
    return tk;
}

/* Encodes and compares with the spellings of the tokens, each followed by a space. */
static void expect(const struct tokenizer *tk, const struct fixture *f, const char *text,
                   struct tokenizer_encode_options opt, const char *want) {
    struct error err = ERROR_INIT;
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    AUTO_BUF got = BUF_INIT;
    assert_int_equal(tokenizer_encode(tk, text, strlen(text), opt, &ids, &err), OK);
    buf_puts(&got, "");
    for (size_t i = 0; i < ids.len; i++)
        buf_printf(&got, "%s ", f->tokens[ids.data[i]]);
    assert_string_equal(got.data, want);
}

static void merges_apply_in_order_of_rank(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    expect(tk, &f, "hello world", plain, "hello \u0120world ");
    expect(tk, &f, "hellohe", plain, "hello he ");
    expect(tk, &f, "123", plain, "123 ");
    expect(tk, &f, "23", plain, "23 ");
    expect(tk, &f, "aaaaa", plain, "aaaa a "); /* leftmost first */
    expect(tk, &f, "\u00e9", plain, "\u00c3\u00a9 ");
    fixture_deinit(&f);
}

static void pretokenizer_keeps_merges_apart(void **state) {
    struct fixture f;
    AUTO(tokenizer) digits = open_byte_level(&f, "qwen2");
    expect(digits, &f, "123", plain, "1 2 3 ");
    fixture_deinit(&f);
    AUTO(tokenizer) lines = open_byte_level(&f, "deepseek-coder");
    expect(lines, &f, "\n\n", plain, "\u010a \u010a ");
    fixture_deinit(&f);
}

static void special_tokens_match_only_where_parsed(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    expect(tk, &f, "he<|im_end|>ll", parse, "he <|im_end|> ll ");
    expect(tk, &f, "<|im_e", parse, "< | i m _ e ");
    expect(tk, &f, "<|im_end|>", plain, "< | i m _ e n d | > ");
    expect(tk, &f, "he<tool>", plain, "he <tool> "); /* user-defined */
    fixture_deinit(&f);
}

static void add_special_puts_bos_before_a_text(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    struct tokenizer_encode_options both = {.add_special = true, .parse_special = true};
    assert_true(tokenizer_adds_bos(tk));
    expect(tk, &f, "he", both, "<|bos|> he ");
    expect(tk, &f, "", both, "");
    fixture_deinit(&f);
}

static void names_tell_end_of_generation(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    int32_t end = tokenizer_find(tk, "<|im_end|>");
    assert_int_equal(end, fixture_id(&f, "<|im_end|>"));
    assert_true(tokenizer_is_eog(tk, end));
    assert_true(tokenizer_is_control(tk, end));
    assert_false(tokenizer_is_eog(tk, tokenizer_find(tk, "<|im_start|>")));
    assert_false(tokenizer_is_control(tk, tokenizer_find(tk, "<tool>")));
    assert_int_equal(tokenizer_find(tk, " world"), fixture_id(&f, "\u0120world"));
    assert_int_equal(tokenizer_find(tk, "nothing"), -1);
    assert_false(tokenizer_is_control(tk, -1));
    assert_false(tokenizer_is_control(tk, 1 << 30));
    fixture_deinit(&f);
}

static void bad_bytes_become_replacement_characters(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    expect(tk, &f, "he\xff", plain, "he \u00ef \u00bf \u00bd ");
    fixture_deinit(&f);
}

static void scores_decide_and_spaces_are_marked(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_spm(&f, NULL, false);
    expect(tk, &f, "the", plain, "\u2581the ");
    expect(tk, &f, "the the", plain, "\u2581the \u2581the ");
    expect(tk, &f, "abcab", plain, "\u2581 abc ab ");
    expect(tk, &f, "  the", plain, "\u2581\u2581 \u2581the ");
    expect(tk, &f, "a  xb", plain, "\u2581 a \u2581\u2581x \u2581 b "); /* user-defined */
    expect(tk, &f, "", plain, "");
    fixture_deinit(&f);
}

static void unknown_characters_become_bytes(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_spm(&f, NULL, false);
    expect(tk, &f, "\u00e9\u4f60", plain, "\u2581 \u00e9 <0xE4> <0xBD> <0xA0> ");
    expect(tk, &f, "a\xff\xfe", plain, "\u2581 a <0xFF> <0xFE> ");
    fixture_deinit(&f);
}

static void plain_text_never_becomes_a_control_token(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_spm(&f, NULL, false);
    expect(tk, &f, "<s>", plain, "\u2581 <s > ");
    expect(tk, &f, "<0x41>", plain, "\u2581 <0x41 > ");
    expect(tk, &f, "<s>", parse, "<s> ");
    fixture_deinit(&f);
}

static void space_flags_are_kept(void **state) {
    struct fixture f;
    AUTO(tokenizer) bare = open_spm(&f, "tokenizer.ggml.add_space_prefix", false);
    expect(bare, &f, "the", plain, "t he ");
    fixture_deinit(&f);
    AUTO(tokenizer) tight = open_spm(&f, "tokenizer.ggml.remove_extra_whitespaces", true);
    expect(tight, &f, "   the   the ", plain, "\u2581the \u2581the ");
    fixture_deinit(&f);
}

static void decoding_strips_the_space_that_encoding_put(void **state) {
    struct fixture f;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) tk = open_spm(&f, NULL, false);
    static const char *const texts[] = {"the the", " the", "  ", "\xff\x80 the", "\u00e9\u4f60\n"};
    struct tokenizer_encode_options opt = {.add_special = true};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
        AUTO_BUF skipped = BUF_INIT, whole = BUF_INIT, want = BUF_INIT;
        assert_int_equal(tokenizer_encode(tk, texts[i], strlen(texts[i]), opt, &ids, &err), OK);
        tokenizer_decode(tk, ids.data, ids.len, true, &skipped);
        assert_string_equal(skipped.data, texts[i]);
        tokenizer_decode(tk, ids.data, ids.len, false, &whole);
        buf_printf(&want, "<s> %s", texts[i]);
        assert_string_equal(whole.data, want.data);
    }
    fixture_deinit(&f);
}

static void streamed_text_is_whole_utf8(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    static const unsigned char bytes[] = {'a', 0xF0, 0x9F, 0x99, 0x82, 'b', 0xE4, 'c', 0xE4, 0xBD};
    static const char *const after[] = {"a",
                                        "a",
                                        "a",
                                        "a",
                                        "a\U0001F642",
                                        "a\U0001F642b",
                                        "a\U0001F642b",
                                        "a\U0001F642b\uFFFDc",
                                        "a\U0001F642b\uFFFDc",
                                        "a\U0001F642b\uFFFDc"};
    struct detokenizer d;
    AUTO_BUF out = BUF_INIT;
    detokenizer_init(&d, tk, true);
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        detokenizer_push(&d, bytes[i], &out);
        detokenizer_push(&d, fixture_id(&f, "<|im_start|>"), &out); /* skipped */
        assert_string_equal(out.data, after[i]);
    }
    detokenizer_flush(&d, &out);
    assert_string_equal(out.data, "a\U0001F642b\uFFFDc\uFFFD\uFFFD");
    fixture_deinit(&f);
}

static void streaming_keeps_the_space_of_a_continued_text(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_spm(&f, NULL, false);
    for (int goes_on = 0; goes_on < 2; goes_on++) {
        struct detokenizer d;
        AUTO_BUF out = BUF_INIT;
        detokenizer_init(&d, tk, true);
        d.started = goes_on;
        detokenizer_push(&d, fixture_id(&f, "\u2581the"), &out);
        detokenizer_push(&d, fixture_id(&f, "\u2581the"), &out);
        assert_string_equal(out.data, goes_on ? " the the" : "the the");
    }
    fixture_deinit(&f);
}

static void clean_up_takes_spaces_before_punctuation(void **state) {
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, "do n't , he 's here ! ' ok ' . ");
    tokenizer_clean_up_spaces(&text);
    assert_string_equal(text.data, "don't, he's here!'ok '. ");
    AUTO_BUF empty = BUF_INIT;
    tokenizer_clean_up_spaces(&empty);
    assert_int_equal(empty.len, 0);
}

static void too_long_a_text_is_refused(void **state) {
    struct fixture f;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) tk = open_byte_level(&f, "gpt-2");
    size_t len = TOKENIZER_TEXT_BYTES_MAX + 1;
    AUTO_FREE char *text = mem_alloc(len);
    memset(text, ' ', len);
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    token_ids_push(&ids, 7);
    assert_int_equal(tokenizer_encode(tk, text, len, plain, &ids, &err), ERR_TOO_LARGE);
    assert_int_equal(ids.len, 1);
    fixture_deinit(&f);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LONG_PRETOKEN_BYTES = 1 << 17 }; /* instrumented, every step costs up to seventy */
#else
enum { LONG_PRETOKEN_BYTES = 1 << 20 };
#endif

/* A text that is one pretoken. Quadratic work would take the better part of an hour, or hours. */
static void a_long_text_of_one_character_takes_linear_time(void **state) {
    static const char *const fills[] = {"a", " ", "\n", "\u4f60", "\u0301\u0316", "<|im_end|"};
    static const char *const pres[] = {"llama-bpe", "deepseek-llm", "tekken"};
    enum { LEN = LONG_PRETOKEN_BYTES };
    AUTO_FREE char *text = mem_alloc(LEN);
    clock_t start = clock();
    for (size_t p = 0; p <= ARRAY_LEN(pres); p++) {
        struct fixture f;
        AUTO(tokenizer)
        tk = p < ARRAY_LEN(pres) ? open_byte_level(&f, pres[p]) : open_spm(&f, NULL, false);
        for (size_t i = 0; i < ARRAY_LEN(fills); i++) {
            struct error err = ERROR_INIT;
            AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
            for (size_t k = 0, n = strlen(fills[i]); k < LEN; k++)
                text[k] = fills[i][k % n];
            assert_int_equal(tokenizer_encode(tk, text, LEN, parse, &ids, &err), OK);
            assert_true(ids.len > 0);
        }
        fixture_deinit(&f);
    }
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("24 texts of %d bytes in %.1f s of processor time\n", LEN, seconds);
    assert_true(seconds < 250);
}

struct lie {
    const char *what; /* the message must hold this */
    void (*write)(struct gguf_writer *w, struct fixture *f);
};

static void no_model(struct gguf_writer *w, struct fixture *f) {
    fixture_put_tokens(w, f);
}
static void unknown_model(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "rwkv");
}
static void no_tokens(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
}
static void empty_tokens(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    gguf_put_strings(w, "tokenizer.ggml.tokens", 0, NULL);
}
static void tokens_of_numbers(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    gguf_put_i32s(w, "tokenizer.ggml.tokens", 3, f->types);
}
static void too_few_types(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    gguf_put_strings(w, "tokenizer.ggml.tokens", f->num_tokens, (const char *const *)f->tokens);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", 2, f->types);
}
static void strange_type(struct gguf_writer *w, struct fixture *f) {
    f->types[5] = 9;
    fixture_put_spm(w, f);
}
static void no_scores(struct gguf_writer *w, struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    fixture_put_tokens(w, f);
}
static void too_few_scores(struct gguf_writer *w, struct fixture *f) {
    no_scores(w, f);
    fixture_put_f32s(w, "tokenizer.ggml.scores", 1, f->scores);
}
static void score_is_no_number(struct gguf_writer *w, struct fixture *f) {
    f->scores[7] = NAN;
    fixture_put_spm(w, f);
}
static void byte_token_of_no_byte(struct gguf_writer *w, struct fixture *f) {
    f->types[1] = 6;
    fixture_put_spm(w, f);
}
static void bos_outside(struct gguf_writer *w, struct fixture *f) {
    fixture_put_spm(w, f);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", f->num_tokens);
}
static void template_too_long(struct gguf_writer *w, struct fixture *f) {
    fixture_put_spm(w, f);
    AUTO_FREE char *text = mem_alloc((1 << 20) + 2);
    memset(text, 'x', (1 << 20) + 1);
    gguf_put_string(w, "tokenizer.chat_template", text);
}

static void expect_refused(const struct lie *lies, size_t num, void (*fill)(struct fixture *)) {
    for (size_t i = 0; i < num; i++) {
        struct gguf_writer w;
        struct fixture f;
        struct error err = ERROR_INIT;
        struct tokenizer *tk = NULL;
        gguf_writer_init(&w);
        fill(&f);
        lies[i].write(&w, &f);
        enum errc rc = fixture_open(&w, &tk, &err);
        if (!rc || tk || !strstr(err.text, lies[i].what))
            fail_msg("case %zu gives %d \"%s\", not \"%s\"", i, rc, err.text, lies[i].what);
        fixture_deinit(&f);
    }
}

static void lying_vocabularies_are_refused_by_key(void **state) {
    static const struct lie lies[] = {
        {"tokenizer.ggml.model is missing", no_model},
        {"tokenizer.ggml.model: \"rwkv\"", unknown_model},
        {"tokenizer.ggml.tokens", no_tokens},
        {"tokenizer.ggml.tokens: 0 tokens", empty_tokens},
        {"tokenizer.ggml.tokens", tokens_of_numbers},
        {"tokenizer.ggml.token_type: 2 entries", too_few_types},
        {"tokenizer.ggml.token_type[5]: 9", strange_type},
        {"tokenizer.ggml.scores", no_scores},
        {"tokenizer.ggml.scores: 1 entries", too_few_scores},
        {"tokenizer.ggml.scores[7]", score_is_no_number},
        {"token 1: a byte token", byte_token_of_no_byte},
        {"tokenizer.ggml.bos_token_id", bos_outside},
        {"tokenizer.chat_template", template_too_long},
    };
    expect_refused(lies, ARRAY_LEN(lies), fixture_spm);
}

static void put_gpt2(struct gguf_writer *w, struct fixture *f, uint64_t num_merges,
                     const char *const *merges) {
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(w, "tokenizer.ggml.pre", "gpt-2");
    fixture_put_tokens(w, f);
    if (merges)
        gguf_put_strings(w, "tokenizer.ggml.merges", num_merges, merges);
}
static void no_merges(struct gguf_writer *w, struct fixture *f) {
    put_gpt2(w, f, 0, NULL);
}
static void merge_of_one(struct gguf_writer *w, struct fixture *f) {
    put_gpt2(w, f, 2, (const char *const[]){"h e", "hello"});
}
static void merge_of_nothing(struct gguf_writer *w, struct fixture *f) {
    put_gpt2(w, f, 1, (const char *const[]){" "});
}
static void merge_of_unknown_left(struct gguf_writer *w, struct fixture *f) {
    put_gpt2(w, f, 1, (const char *const[]){"qq e"});
}
static void merge_of_unknown_result(struct gguf_writer *w, struct fixture *f) {
    put_gpt2(w, f, 2, (const char *const[]){"h e", "q e"});
}
static void unknown_pre(struct gguf_writer *w, struct fixture *f) {
    fixture_put_byte_level(w, f, "no-such-thing");
}

static void lying_merges_are_refused_by_place(void **state) {
    static const struct lie lies[] = {
        {"tokenizer.ggml.merges", no_merges},
        {"tokenizer.ggml.merges[1]: \"hello\"", merge_of_one},
        {"tokenizer.ggml.merges[0]", merge_of_nothing},
        {"tokenizer.ggml.merges[0]: \"qq e\": the left token", merge_of_unknown_left},
        {"tokenizer.ggml.merges[1]: \"q e\": the joined token", merge_of_unknown_result},
        {"tokenizer.ggml.pre", unknown_pre},
    };
    expect_refused(lies, ARRAY_LEN(lies), fixture_byte_level);
}

/* Twice the same token, empty tokens, all control, no bytes at all: odd, and usable. */
static void odd_vocabularies_work(void **state) {
    static const char *const tokens[] = {"a", "", "b", "a", "", "ab", "\xff", "Z"};
    static const int32_t types[] = {1, 1, 1, 1, 3, 1, 1, 5};
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) tk = NULL;
    gguf_writer_init(&w);
    gguf_put_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_put_strings(&w, "tokenizer.ggml.tokens", ARRAY_LEN(tokens), tokens);
    gguf_put_i32s(&w, "tokenizer.ggml.token_type", ARRAY_LEN(types), types);
    gguf_put_strings(&w, "tokenizer.ggml.merges", 2, (const char *const[]){"a b", "a b"});
    if (fixture_open(&w, &tk, &err))
        fail_msg("%s", err.text);
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    struct tokenizer_encode_options both = {true, true};
    assert_int_equal(tokenizer_encode(tk, "xab?a", 5, both, &ids, &err), OK);
    assert_int_equal(ids.len, 2); /* what has no token vanishes */
    assert_int_equal(ids.data[0], 5);
    assert_int_equal(ids.data[1], 3); /* of equal tokens the last */
    size_t len;
    assert_string_equal(tokenizer_piece(tk, 99, &len), "");
    assert_int_equal(len, 0);
}

struct racer {
    const struct tokenizer *tk;
    size_t num_ids;
};

static void *race(void *arg) {
    struct racer *r = arg;
    for (int i = 0; i < 50; i++) {
        struct error err = ERROR_INIT;
        AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
        AUTO_BUF text = BUF_INIT;
        static const char input[] = "hello world 123 \u00e9 <|im_end|> hello";
        if (tokenizer_encode(r->tk, input, strlen(input), parse, &ids, &err))
            return NULL;
        tokenizer_decode(r->tk, ids.data, ids.len, false, &text);
        if (strcmp(text.data, input) != 0)
            return NULL;
        r->num_ids = ids.len;
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    struct fixture f;
    AUTO(tokenizer) tk = open_byte_level(&f, "llama-bpe");
    pthread_t threads[4];
    struct racer racers[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        racers[i] = (struct racer){.tk = tk};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_true(racers[i].num_ids > 0);
        assert_int_equal(racers[i].num_ids, racers[0].num_ids);
    }
    fixture_deinit(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_apply_in_order_of_rank),
        cmocka_unit_test(pretokenizer_keeps_merges_apart),
        cmocka_unit_test(special_tokens_match_only_where_parsed),
        cmocka_unit_test(add_special_puts_bos_before_a_text),
        cmocka_unit_test(names_tell_end_of_generation),
        cmocka_unit_test(bad_bytes_become_replacement_characters),
        cmocka_unit_test(scores_decide_and_spaces_are_marked),
        cmocka_unit_test(unknown_characters_become_bytes),
        cmocka_unit_test(plain_text_never_becomes_a_control_token),
        cmocka_unit_test(space_flags_are_kept),
        cmocka_unit_test(decoding_strips_the_space_that_encoding_put),
        cmocka_unit_test(streamed_text_is_whole_utf8),
        cmocka_unit_test(streaming_keeps_the_space_of_a_continued_text),
        cmocka_unit_test(clean_up_takes_spaces_before_punctuation),
        cmocka_unit_test(too_long_a_text_is_refused),
        cmocka_unit_test(a_long_text_of_one_character_takes_linear_time),
        cmocka_unit_test(lying_vocabularies_are_refused_by_key),
        cmocka_unit_test(lying_merges_are_refused_by_place),
        cmocka_unit_test(odd_vocabularies_work),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
