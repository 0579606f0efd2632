/* Tokenizers from Hugging Face directories, which are written here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/tokenizer_fixtures.h"

struct dir {
    char path[64];
};

static void dir_init(struct dir *d) {
    strcpy(d->path, "/tmp/inferd-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(d->path));
}

static void dir_put(const struct dir *d, const char *name, const char *text, size_t len) {
    AUTO_FREE char *path = mem_printf("%s/%s", d->path, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

static void dir_deinit(struct dir *d) {
    DIR *list = opendir(d->path);
    for (struct dirent *e; list && (e = readdir(list));) {
        AUTO_FREE char *path = mem_printf("%s/%s", d->path, e->d_name);
        unlink(path);
    }
    closedir(list);
    rmdir(d->path);
}

/* The byte-level fixture as tokenizer.json; merges as "a b" or as ["a", "b"]. */
static json_t *byte_level_json(const struct fixture *f, bool merges_as_lists) {
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    for (uint32_t id = 0; id < f->num_tokens; id++) {
        if (f->types[id] == 1)
            json_object_set_new(vocab, f->tokens[id], json_integer(id));
        else
            json_array_append_new(added, json_pack("{s:i, s:s, s:b}", "id", (int)id, "content",
                                                   f->tokens[id], "special", f->types[id] == 3));
    }
    for (size_t i = 0; i < FIXTURE_NUM_MERGES; i++) {
        const char *space = strchr(fixture_merges[i], ' ');
        json_array_append_new(
            merges, merges_as_lists ? json_pack("[s%, s]", fixture_merges[i],
                                                (size_t)(space - fixture_merges[i]), space + 1)
                                    : json_string(fixture_merges[i]));
    }
    return json_pack("{s:o, s:{s:s, s:o, s:o}, s:{s:s, s:b}, s:{s:s}}", "added_tokens", added,
                     "model", "type", "BPE", "vocab", vocab, "merges", merges, "pre_tokenizer",
                     "type", "ByteLevel", "add_prefix_space", 0, "decoder", "type", "ByteLevel");
}

static void dir_put_json(const struct dir *d, const char *name, json_t *doc) {
    char *text = json_dumps(doc, 0);
    dir_put(d, name, text, strlen(text));
    free(text);
    json_decref(doc);
}

static struct tokenizer *open_dir(const struct dir *d) {
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    if (tokenizer_from_dir(d->path, &tk, &err))
        fail_msg("%s", err.text);
    return tk;
}

static void expect_ids(const struct tokenizer *tk, const char *text,
                       struct tokenizer_encode_options opt, const char *want) {
    struct error err = ERROR_INIT;
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    AUTO_BUF got = BUF_INIT;
    if (tokenizer_encode(tk, text, strlen(text), opt, &ids, &err))
        fail_msg("%s", err.text);
    buf_puts(&got, "");
    for (size_t i = 0; i < ids.len; i++) {
        size_t len;
        const char *piece = tokenizer_piece(tk, ids.data[i], &len);
        buf_printf(&got, "%s%.*s", i ? "|" : "", (int)len, piece);
    }
    assert_string_equal(got.data, want);
}

static const struct tokenizer_encode_options plain = {0}, parse = {.parse_special = true},
                                             add = {.add_special = true};

static void a_directory_gives_the_ids_of_the_gguf(void **state) {
    static const char *const texts[] = {"hello world",     "aaaa 123", "\u00e9\n\n  x",
                                        "<|im_end|>hello", "a<tool>b", "bad \xff bytes"};
    struct fixture f;
    fixture_byte_level(&f);
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(tokenizer) gguf = NULL;
    gguf_writer_init(&w);
    fixture_put_byte_level(&w, &f, "gpt-2");
    assert_int_equal(fixture_open(&w, &gguf, &err), OK);
    for (int lists = 0; lists < 2; lists++) {
        struct dir d;
        dir_init(&d);
        dir_put_json(&d, "tokenizer.json", byte_level_json(&f, lists));
        AUTO(tokenizer) hf = open_dir(&d);
        assert_int_equal(tokenizer_vocab_size(hf), f.num_tokens);
        for (size_t i = 0; i < ARRAY_LEN(texts) * 2; i++) {
            AUTO_TOKEN_IDS a = TOKEN_IDS_INIT, b = TOKEN_IDS_INIT;
            const char *text = texts[i / 2];
            struct tokenizer_encode_options opt = {.parse_special = i % 2};
            assert_int_equal(tokenizer_encode(gguf, text, strlen(text), opt, &a, &err), OK);
            assert_int_equal(tokenizer_encode(hf, text, strlen(text), opt, &b, &err), OK);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.data, b.data, a.len * sizeof(*a.data));
        }
        dir_deinit(&d);
    }
    fixture_deinit(&f);
}

static void configs_beside_it_are_read(void **state) {
    static const char config[] =
        "{\"bos_token\": {\"content\": \"<|bos|>\"}, \"eos_token\": \"<|im_start|>\","
        " \"model_max_length\": 1000000000000000019884624838656,"
        " \"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"},"
        "                     {\"name\": \"default\", \"template\": \"d\"}]}";
    struct fixture f;
    struct dir d;
    fixture_byte_level(&f);
    dir_init(&d);
    json_t *doc = byte_level_json(&f, false);
    json_object_set_new(doc, "post_processor",
                        json_pack("{s:s, s:[{s:{s:s}}, {s:{s:s}}, {s:{s:s}}]}", "type",
                                  "TemplateProcessing", "single", "SpecialToken", "id", "<|bos|>",
                                  "Sequence", "id", "A", "SpecialToken", "id", "<|im_end|>"));
    dir_put_json(&d, "tokenizer.json", doc);
    dir_put(&d, "tokenizer_config.json", config, strlen(config));
    dir_put_json(&d, "generation_config.json",
                 json_pack("{s:[i, i, i]}", "eos_token_id", 97, fixture_id(&f, "<|im_end|>"), -5));
    AUTO(tokenizer) tk = open_dir(&d);
    assert_int_equal(tokenizer_bos(tk), fixture_id(&f, "<|bos|>"));
    assert_int_equal(tokenizer_eos(tk), fixture_id(&f, "<|im_start|>"));
    assert_true(tokenizer_is_eog(tk, 97));
    assert_true(tokenizer_is_eog(tk, fixture_id(&f, "<|im_end|>")));
    assert_true(tokenizer_is_eog(tk, fixture_id(&f, "<|im_start|>")));
    assert_true(tokenizer_adds_bos(tk));
    assert_string_equal(tokenizer_chat_template(tk), "d");
    expect_ids(tk, "hello", add, "<|bos|>|hello|<|im_end|>");
    dir_put(&d, "chat_template.jinja", "from file", 9);
    AUTO(tokenizer) again = open_dir(&d);
    assert_string_equal(tokenizer_chat_template(again), "from file");
    dir_deinit(&d);
    fixture_deinit(&f);
}

static void llama_classes_rule_over_the_post_processor(void **state) {
    struct fixture f;
    struct dir d;
    fixture_byte_level(&f);
    dir_init(&d);
    dir_put_json(&d, "tokenizer.json", byte_level_json(&f, false));
    dir_put_json(&d, "tokenizer_config.json",
                 json_pack("{s:s, s:s, s:b, s:s, s:b}", "tokenizer_class", "LlamaTokenizerFast",
                           "bos_token", "<|bos|>", "add_bos_token", 1, "eos_token", "<|im_end|>",
                           "add_eos_token", 1));
    AUTO(tokenizer) tk = open_dir(&d);
    expect_ids(tk, "hello", add, "<|bos|>|hello|<|im_end|>");
    dir_deinit(&d);
    fixture_deinit(&f);
}

/* A vocabulary of characters, with steps and added tokens as each case says. */
static struct tokenizer *open_characters(const struct dir *d, const char *steps) {
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, "{\"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"fuse_unk\": true, "
                    "\"vocab\": {\"?\": 0, \"a\": 1, \"b\": 2, \"\u2581\": 3, \"\u2581a\": 4, "
                    "\"1\": 5, \"A\": 6, \"<pad>\": 7}, \"merges\": [\"\u2581 a\"]}");
    buf_printf(&text, "%s}", steps);
    dir_put(d, "tokenizer.json", text.data, text.len);
    return open_dir(d);
}

static void steps_are_read_from_json(void **state) {
    static const char *const cases[][3] = {
        {"", "a zzb", "a|?|b"},
        {", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
         "{\"type\": \"Prepend\", \"prepend\": \"\u2581\"}, "
         "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\u2581\"}]}"
         ", \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", "
         "\"pattern\": {\"String\": \"\u2581\"}, \"content\": \" \"}, {\"type\": \"Fuse\"}, "
         "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}",
         "a ab", " a| a|b"},
        {", \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\u2581\", "
         "\"prepend_scheme\": \"first\", \"split\": true}, \"decoder\": {\"type\": \"Metaspace\", "
         "\"replacement\": \"\u2581\"}",
         "a b<pad>a", " a| |b|<pad>|a"},
        {", \"normalizer\": {\"type\": \"Lowercase\"}", "AB", "a|b"},
        {", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"[0-9]+\"}, "
         "\"content\": \"1\"}",
         "a234", "a|1"},
        {", \"normalizer\": {\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}",
         "  a ", "a"},
        {", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"b\"}, "
         "\"behavior\": \"Removed\", \"invert\": false}",
         "abba", "a|a"},
        {", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
         "\"WhitespaceSplit\"}, {\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": "
         "\"Punctuation\"}]}",
         "a 1,b", "a|1|?|b"},
        {", \"pre_tokenizer\": {\"type\": \"Whitespace\"}", " a  b", "a|b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dir d;
        AUTO_BUF steps = BUF_INIT;
        dir_init(&d);
        buf_printf(&steps, "%s, \"added_tokens\": [{\"id\": 7, \"content\": \"<pad>\"}]",
                   cases[i][0]);
        AUTO(tokenizer) tk = open_characters(&d, steps.data);
        expect_ids(tk, cases[i][1], plain, cases[i][2]);
        dir_deinit(&d);
    }
}

static void added_tokens_keep_their_flags(void **state) {
    static const char *const cases[][3] = {
        {"\"lstrip\": true", "a <pad> b", "a|<pad>|?|b"},
        {"\"rstrip\": true", "a <pad> b", "a|?|<pad>|b"},
        {"\"single_word\": true", "<pad> b <pad>", "<pad>|?|b|?|<pad>"},
        {"\"single_word\": true", "a<pad>", "a|?|a|?"}, /* "<p" is unknown, "d>" too */
        {"\"single_word\": true", "<pad>\u00e9", "?|a|?"},
        {"\"special\": true", "a<pad>", "a|?|a|?"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dir d;
        AUTO_BUF steps = BUF_INIT;
        dir_init(&d);
        buf_printf(&steps, ", \"added_tokens\": [{\"id\": 7, \"content\": \"<pad>\", %s}]",
                   cases[i][0]);
        AUTO(tokenizer) tk = open_characters(&d, steps.data);
        expect_ids(tk, cases[i][1], plain, cases[i][2]);
        dir_deinit(&d);
    }
}

static void wordpiece_is_read(void **state) {
    static const char text[] =
        "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
        "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 8, \"vocab\": "
        "{\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"un\": 3, \"##aff\": 4, \"##able\": 5, "
        "\"a\": 6, \",\": 7}}, \"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": "
        "true}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"decoder\": {\"type\": "
        "\"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}, \"post_processor\": {\"type\": "
        "\"BertProcessing\", \"sep\": [\"[SEP]\", 2], \"cls\": [\"[CLS]\", 1]}, "
        "\"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\", \"special\": true}, {\"id\": 1, "
        "\"content\": \"[CLS]\", \"special\": true}, {\"id\": 2, \"content\": \"[SEP]\", "
        "\"special\": true}]}";
    struct dir d;
    struct error err = ERROR_INIT;
    dir_init(&d);
    dir_put(&d, "tokenizer.json", text, strlen(text));
    AUTO(tokenizer) tk = open_dir(&d);
    expect_ids(tk, "UNaff\u00c0, unable a unaffable xyz", plain,
               "[UNK]| ,| un|able| a|[UNK]|[UNK]"); /* the one before the last is too long */
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    AUTO_BUF with = BUF_INIT, without = BUF_INIT;
    assert_int_equal(tokenizer_encode(tk, "unable, a", 9, add, &ids, &err), OK);
    tokenizer_decode(tk, ids.data, ids.len, false, &with);
    tokenizer_decode(tk, ids.data, ids.len, true, &without);
    assert_string_equal(with.data, "[CLS] unable, a [SEP]");
    assert_string_equal(without.data, "unable, a");
    dir_deinit(&d);
}

static void expect_refused(const char *text, const char *what) {
    struct dir d;
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    dir_init(&d);
    dir_put(&d, "tokenizer.json", text, strlen(text));
    enum errc rc = tokenizer_from_dir(d.path, &tk, &err);
    if (!rc || !strstr(err.text, "/tokenizer.json: ") || !strstr(err.text, what))
        fail_msg("%s gives %d \"%s\", not \"%s\"", text, rc, err.text, what);
    dir_deinit(&d);
}

#define MODEL(rest) "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}" rest
#define WHOLE(rest) MODEL(", \"merges\": []}") rest "}"

static void what_is_not_supported_is_named(void **state) {
    static const char *const cases[][2] = {
        {"{", "line 1"},
        {"[]", "model: missing"},
        {"{\"model\": []}", "model: missing"},
        {"{\"model\": {\"vocab\": {}}}", "tokens"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "model.type: \"Unigram\""},
        {MODEL("}}"), "model.merges: must be a list"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", "\"a\": id"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999}, \"merges\": []}}",
         "id must"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\" 1}, \"merges\": []}}", "model.vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1.5}, \"merges\": []}}",
         "model.vocab"},
        {MODEL(", \"merges\": [\"a b\"]}}"), "model.merges[0]: \"a\" + \"b\": the joined token"},
        {MODEL(", \"merges\": [\"a c\"]}}"), "model.merges[0]: \"a\" + \"c\": the right token"},
        {MODEL(", \"merges\": [\"ab\"]}}"), "model.merges[0]"},
        {MODEL(", \"merges\": [[\"a\"]]}}"), "model.merges[0]"},
        {MODEL(", \"merges\": [], \"end_of_word_suffix\": \"</w>\"}}"), "model.end_of_word_suffix"},
        {WHOLE(", \"normalizer\": {\"type\": \"Precompiled\"}"),
         "normalizer: type \"Precompiled\" is not supported"},
        {WHOLE(", \"normalizer\": {\"type\": \"Sequence\"}"), "normalizers must be a list"},
        {WHOLE(", \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}}"),
         "pattern"},
        {WHOLE(", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
               "\"ByteLevel\"}, {\"type\": \"Odd\"}]}"),
         "pre_tokenizer: pretokenizers[1]: type \"Odd\""},
        {WHOLE(", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, "
               "\"behavior\": \"Isolated\"}"),
         "pre_tokenizer: pattern"},
        {WHOLE(", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, "
               "\"behavior\": \"Odd\"}"),
         "behavior: \"Odd\""},
        {WHOLE(", \"decoder\": {\"type\": \"CTC\"}"), "decoder: type \"CTC\""},
        {WHOLE(", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "
               "[{\"SpecialToken\": {\"id\": \"<s>\"}}]}"),
         "post_processor: single[0]: \"<s>\" is not in the vocabulary"},
        {WHOLE(", \"added_tokens\": [{\"id\": 1}]"), "added_tokens[0].content"},
        {WHOLE(", \"added_tokens\": [{\"content\": \"x\"}]"), "added_tokens[0].id"},
        {WHOLE(", \"added_tokens\": [{\"id\": 2, \"content\": \"x\"}, {\"id\": 2, "
               "\"content\": \"y\"}]"),
         "added_tokens[0].id: 2 stands for two tokens"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_refused(cases[i][0], cases[i][1]);
}

static void deep_nesting_is_refused(void **state) {
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, MODEL(", \"merges\": []}, \"normalizer\": "));
    for (int i = 0; i < 12; i++)
        buf_puts(&text, "{\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < 12; i++)
        buf_puts(&text, "]}");
    buf_puts(&text, "}");
    expect_refused(text.data, "nested deeper");
}

static void merges_of_special_tokens_are_left_out(void **state) {
    static const char text[] =
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"<\": 0, \"s>\": 1, \"<s>\": 2, \"s\": 3, "
        "\">\": 4}, \"merges\": [\"s >\", \"< s>\"]}, \"added_tokens\": [{\"id\": 2, \"content\": "
        "\"<s>\", \"special\": true}]}";
    struct dir d;
    dir_init(&d);
    dir_put(&d, "tokenizer.json", text, strlen(text));
    AUTO(tokenizer) tk = open_dir(&d);
    expect_ids(tk, "<s>", plain, "<|s>");
    expect_ids(tk, "<s>", parse, "<s>");
    dir_deinit(&d);
}

static void an_empty_directory_has_no_tokenizer(void **state) {
    struct dir d;
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    dir_init(&d);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, d.path));
    dir_put(&d, "tokenizer.model", "\n\x0f\n\x05hello\x15", 11); /* cut */
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_MALFORMED);
    dir_put(&d, "tokenizer.model", "aGk= 0\naGkx 2\n", 14); /* a rank is missing */
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_MALFORMED);
    assert_non_null(strstr(err.text, "line 2"));
    dir_put(&d, "tokenizer.model", "", 0);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_INVALID);
    dir_put(&d, "tokenizer.model", "aA== 0\naQ== 1\naGk= 2\n", 21);
    AUTO(tokenizer) ranks = open_dir(&d);
    expect_ids(ranks, "hihh", plain, "hi|h|h");
    dir_deinit(&d);
}

/* A file of holes: its size alone is too much. */
static void dir_put_holes(const struct dir *d, const char *name, off_t len) {
    AUTO_FREE char *path = mem_printf("%s/%s", d->path, name);
    dir_put(d, name, "", 0);
    assert_int_equal(truncate(path, len), 0);
}

static void files_are_bounded_and_regular(void **state) {
    struct fixture f;
    struct dir d;
    struct error err = ERROR_INIT;
    struct tokenizer *tk = NULL;
    fixture_byte_level(&f);
    dir_init(&d);
    dir_put_holes(&d, "tokenizer.json", ((off_t)256 << 20) + 1);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "tokenizer.json: more than 268435456 bytes"));
    dir_put_json(&d, "tokenizer.json", byte_level_json(&f, false));
    dir_put_holes(&d, "chat_template.jinja", (1 << 20) + 1);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "chat_template.jinja: more than 1048576 bytes"));
    dir_put(&d, "chat_template.jinja", "ok", 2);
    dir_put(&d, "tokenizer_config.json", "{,}", 3);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_MALFORMED);
    assert_non_null(strstr(err.text, "tokenizer_config.json: line 1"));
    AUTO_FREE char *path = mem_printf("%s/tokenizer_config.json", d.path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tokenizer_from_dir(d.path, &tk, &err), ERR_MALFORMED);
    assert_non_null(strstr(err.text, "tokenizer_config.json: not a regular file"));
    assert_null(tk);
    dir_deinit(&d);
    fixture_deinit(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_gives_the_ids_of_the_gguf),
        cmocka_unit_test(configs_beside_it_are_read),
        cmocka_unit_test(llama_classes_rule_over_the_post_processor),
        cmocka_unit_test(steps_are_read_from_json),
        cmocka_unit_test(added_tokens_keep_their_flags),
        cmocka_unit_test(wordpiece_is_read),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(merges_of_special_tokens_are_left_out),
        cmocka_unit_test(an_empty_directory_has_no_tokenizer),
        cmocka_unit_test(files_are_bounded_and_regular),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
