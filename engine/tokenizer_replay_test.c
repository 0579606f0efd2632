/* Nasty inputs through every kind of tokenizer, and vocabularies with random bytes changed. Nothing
 * here says which ids must come out; it says what must hold for all of them: no crash, ids inside
 * the vocabulary, the same text back, and streaming that agrees with decoding at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/tokenizer_fixtures.h"
#include "engine/tokenizer_state.h"

struct input {
    const char *text;
    size_t len;
};
#define INPUT(s)                                                                                   \
    { s, sizeof(s) - 1 }

static const struct input corpus[] = {
    INPUT(""),
    INPUT("\0"),
    INPUT("a\0b\0\0c"),
    INPUT(" "),
    INPUT("\t\r\n\v\f \xC2\x85\u00a0\u1680\u2028\u3000"),
    INPUT("\x80"),
    INPUT("\xff\xfe\xfd"),
    INPUT("\xC0\x80\xE0\x80\x80\xF0\x80\x80\x80"),
    INPUT("\xED\xA0\x80\xED\xBF\xBF"),
    INPUT("\xF4\x90\x80\x80"),
    INPUT("cut \xF0\x9F\x99"),
    INPUT("\xE4\xBD\xA0\xE5\xA5"),
    INPUT("hello \xE4 world"),
    INPUT("<|im_end|>"),
    INPUT("<|im_end|><|im_end|><tool><|bos|>"),
    INPUT("<|im_end"),
    INPUT("<|im_end|\xff>"),
    INPUT("<|<|im_end|>im_end|>"),
    INPUT("<0x41><0x0A><s></s><unk>"),
    INPUT("\u2581\u2581the\u2581"),
    INPUT("\uFFFD\uFFFE\uFFFF"),
    INPUT("\u200b\u200d\u2060\ufeff"),
    INPUT("e\u0301\u0316\u0301 Zalgo\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308"),
    INPUT("\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466"),
    INPUT("\u202Eright to left\u202C"),
    INPUT("\U0010FFFF\U000E0001"),
    INPUT("I'll I'LL 'tis ''' 're're \u2019s"),
    INPUT("1234567890.1234567890e-10 0x1F \u0661\u0662\u00b2\u2167"),
    INPUT("\n\n\n  \n \r\n\r\n\t x \n"),
    INPUT("((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("),
    INPUT("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z"),
    INPUT("\u1100\u1161\u11a8\ufb03\ufdfa\u0130\u0131\u1e9e"),
    INPUT("\x01\x02\x03\x1b[31mred\x1b[0m\x7f"),
    INPUT("%s%n%d${jndi:ldap://x}'; DROP TABLE users; --"),
};

static uint64_t next_random(uint64_t *seed) {
    *seed += 0x9E3779B97F4A7C15u;
    uint64_t z = (*seed ^ (*seed >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Streams ids and decodes them at once: the same, but for broken sequences. */
static void check_streaming(const struct tokenizer *tk, const struct token_ids *ids) {
    AUTO_BUF whole = BUF_INIT, want = BUF_INIT, got = BUF_INIT;
    struct detokenizer d;
    tokenizer_decode(tk, ids->data, ids->len, false, &whole);
    utf8_append_repaired(&want, whole.data, whole.len);
    detokenizer_init(&d, tk, false);
    for (size_t i = 0; i < ids->len; i++) {
        detokenizer_push(&d, ids->data[i], &got);
        assert_int_equal(utf8_valid_len(got.data ? got.data : "", got.len), got.len);
    }
    detokenizer_flush(&d, &got);
    if (tk->cleans_up) /* needs the whole text */
        return;
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data ? got.data : "", want.data ? want.data : "", got.len);
}

static void run_text(const struct tokenizer *tk, const char *text, size_t len, bool lossless) {
    for (int mode = 0; mode < 4; mode++) {
        struct error err = ERROR_INIT;
        struct tokenizer_encode_options opt = {.add_special = mode & 1, .parse_special = mode & 2};
        AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
        if (tokenizer_encode(tk, text, len, opt, &ids, &err))
            fail_msg("%s", err.text);
        for (size_t i = 0; i < ids.len; i++) {
            assert_true(ids.data[i] >= 0 && (uint32_t)ids.data[i] < tokenizer_vocab_size(tk));
            if (mode == 0)
                assert_int_not_equal(tk->vocab.tokens[ids.data[i]].kind, TOKEN_CONTROL);
        }
        check_streaming(tk, &ids);
        if (!lossless || opt.add_special)
            continue;
        AUTO_BUF back = BUF_INIT, want = BUF_INIT;
        tokenizer_decode(tk, ids.data, ids.len, false, &back);
        if (tk->keeps_bad_bytes)
            buf_append(&want, text, len);
        else
            utf8_append_repaired(&want, text, len);
        assert_int_equal(back.len, want.len);
        assert_memory_equal(back.data ? back.data : "", want.data ? want.data : "", want.len);
    }
}

static void run_corpus(const struct tokenizer *tk, bool lossless) {
    for (size_t i = 0; i < ARRAY_LEN(corpus); i++)
        run_text(tk, corpus[i].text, corpus[i].len, lossless);
}

/* Random strings over bytes that mean something somewhere. */
static void run_random(const struct tokenizer *tk, bool lossless) {
    static const char alphabet[] =
        "ahelo w12'<|>im_end\n\t\xC3\xA9\xE4\xBD\xA0\xF0\x9F\xFF\x80\xE2\x96\x81";
    uint64_t seed = 7;
    for (int round = 0; round < 200; round++) {
        char text[64];
        size_t len = next_random(&seed) % sizeof(text);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
        run_text(tk, text, len, lossless);
    }
}

static void byte_level_tokenizers_give_every_text_back(void **state) {
    static const char *const pres[] = {"default", "gpt-2",     "llama-bpe",    "qwen2",
                                       "falcon",  "tekken",    "deepseek-llm", "deepseek-coder",
                                       "bloom",   "viking",    "deepseek-v3",  "gpt-4o",
                                       "qwen35",  "starcoder", "seed-coder",   "bailingmoe"};
    for (size_t p = 0; p < ARRAY_LEN(pres); p++) {
        struct fixture f;
        struct gguf_writer w;
        struct error err = ERROR_INIT;
        AUTO(tokenizer) tk = NULL;
        fixture_byte_level(&f);
        gguf_writer_init(&w);
        fixture_put_byte_level(&w, &f, pres[p]);
        if (fixture_open(&w, &tk, &err))
            fail_msg("%s", err.text);
        run_corpus(tk, true);
        run_random(tk, true);
        fixture_deinit(&f);
    }
}

static void sentencepiece_tokenizers_give_every_byte_back(void **state) {
    struct fixture f;
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) tk = NULL;
    fixture_spm(&f);
    gguf_writer_init(&w);
    fixture_put_spm(&w, &f);
    if (fixture_open(&w, &tk, &err))
        fail_msg("%s", err.text);
    run_random(tk, false); /* U+2581 in a text comes back as a space */
    for (size_t i = 0; i < ARRAY_LEN(corpus); i++)
        if (corpus[i].len && !memmem(corpus[i].text, corpus[i].len, "\u2581", 3) &&
            corpus[i].text[0] != '<') /* before a special token nothing is stripped */
            run_text(tk, corpus[i].text, corpus[i].len, true);
    fixture_deinit(&f);
}

static void wordpiece_tokenizers_survive(void **state) {
    struct fixture f = {0};
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) tk = NULL;
    static const char *const pieces[] = {"\u2581he", "llo", "\u2581a", "\u2581e", "\u2581'", "h"};
    fixture_add(&f, "[UNK]", 3);
    fixture_add(&f, "[CLS]", 3);
    fixture_add(&f, "[SEP]", 3);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
        fixture_add(&f, pieces[i], 1);
    gguf_writer_init(&w);
    gguf_put_string(&w, "tokenizer.ggml.model", "bert");
    fixture_put_tokens(&w, &f);
    gguf_put_u32(&w, "tokenizer.ggml.cls_token_id", 1);
    gguf_put_u32(&w, "tokenizer.ggml.seperator_token_id", 2);
    if (fixture_open(&w, &tk, &err))
        fail_msg("%s", err.text);
    run_corpus(tk, false);
    run_random(tk, false);
    fixture_deinit(&f);
}

/* Changes a few bytes of a sound file: it is refused, or works. */
static void changed_ggufs_never_crash(void **state) {
    uint64_t seed = 1;
    int num_opened = 0;
    for (int kind = 0; kind < 2; kind++) {
        struct fixture f;
        struct gguf_writer w;
        gguf_writer_init(&w);
        if (kind)
            fixture_spm(&f);
        else
            fixture_byte_level(&f);
        if (kind)
            fixture_put_spm(&w, &f);
        else
            fixture_put_byte_level(&w, &f, "llama-bpe");
        gguf_writer_finish(&w);
        for (int round = 0; round < 1000; round++) {
            AUTO_FREE char *bytes = mem_dup(w.file.data, w.file.len);
            for (uint64_t n = 1 + next_random(&seed) % 2; n; n--)
                bytes[next_random(&seed) % w.file.len] = (char)next_random(&seed);
            struct error err = ERROR_INIT;
            AUTO(gguf) g = NULL;
            AUTO(tokenizer) tk = NULL;
            if (gguf_open_memory("changed", bytes, w.file.len, &g, &err))
                continue;
            if (tokenizer_from_gguf(g, &tk, &err))
                assert_true(err.text[0] != '\0');
            else if (++num_opened % 8 == 0)
                run_corpus(tk, false);
        }
        gguf_writer_deinit(&w);
        fixture_deinit(&f);
    }
    print_message("%d of 2000 changed files open\n", num_opened);
    assert_true(num_opened > 100);
}

/* The same for the texts of tokenizer.json and tokenizer.model. */
static void change_text(const char *text, size_t len, bool json) {
    uint64_t seed = 3;
    for (int round = 0; round < 3000; round++) {
        AUTO_FREE char *bytes = mem_strndup(text, len);
        size_t cut = round % 5 ? len : next_random(&seed) % (len + 1);
        for (uint64_t n = 1 + next_random(&seed) % 4; n && cut; n--)
            bytes[next_random(&seed) % cut] =
                round % 2 ? text[next_random(&seed) % len] : (char)next_random(&seed);
        struct error err = ERROR_INIT;
        AUTO(tokenizer) tk = mem_alloc(sizeof(*tk));
        tk->bos = tk->eos = -1;
        enum errc rc = json ? tokenizer_load_json(tk, bytes, cut, &err)
                            : tokenizer_load_model(tk, bytes, cut, &err);
        if (rc) {
            assert_true(err.text[0] != '\0');
            continue;
        }
        tokenizer_seal(tk);
        run_text(tk, "hello <s> world", 15, false);
        run_text(tk, "\xff aab", 5, false);
    }
}

static void changed_json_never_crashes(void **state) {
    static const char text[] =
        "{\"added_tokens\": [{\"id\": 6, \"content\": \"<s>\", \"special\": true, \"lstrip\": "
        "true}, {\"id\": 7, \"content\": \"<t>\", \"rstrip\": true, \"single_word\": true}], "
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}, "
        "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" +\"}, \"content\": \" \"}]}, "
        "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
        "\"pattern\": {\"Regex\": \"\\\\s+|[a-z]+\"}, \"behavior\": \"Isolated\"}, {\"type\": "
        "\"Metaspace\", \"replacement\": \"_\"}, {\"type\": \"Digits\"}]}, \"model\": {\"type\": "
        "\"BPE\", \"byte_fallback\": true, \"vocab\": {\"h\": 0, \"e\": 1, \"l\": 2, \"he\": 3, "
        "\"\\u0061\": 4, \"<0x41>\": 5}, \"merges\": [\"h e\", [\"h\", \"e\"]]}, \"decoder\": "
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"_\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}]}, "
        "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
        "{\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}]}}";
    change_text(text, strlen(text), true);
}

static void changed_models_never_crash(void **state) {
    static const char protobuf[] = "\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0\x18\x02"
                                   "\x0A\x08\x0A\x01h\x15\0\0\x80\xBF"
                                   "\x0A\x08\x0A\x01"
                                   "e\x15\0\0\0\xC0"
                                   "\x0A\x09\x0A\x02he\x15\0\0\0\0"
                                   "\x0A\x0F\x0A\x06<0x41>\x15\0\0\0\0\x18\x06"
                                   "\x12\x05\x18\x02\xC0\x02\0"
                                   "\x1A\x04\x18\x01\x20\0";
    AUTO(tokenizer) tk = mem_alloc(sizeof(*tk));
    struct error err = ERROR_INIT;
    if (tokenizer_load_model(tk, protobuf, sizeof(protobuf) - 1, &err))
        fail_msg("%s", err.text);
    change_text(protobuf, sizeof(protobuf) - 1, false);
    static const char ranks[] = "aA== 0\nZQ== 1\naGU= 2\nbA== 3\n";
    change_text(ranks, strlen(ranks), false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_tokenizers_give_every_text_back),
        cmocka_unit_test(sentencepiece_tokenizers_give_every_byte_back),
        cmocka_unit_test(wordpiece_tokenizers_survive),
        cmocka_unit_test(changed_ggufs_never_crash),
        cmocka_unit_test(changed_json_never_crashes),
        cmocka_unit_test(changed_models_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
