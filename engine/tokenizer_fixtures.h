/* Small vocabularies for tests, written as GGUF. Only tests include this.
 *
 * The byte-level one: ids 0 to 255 are the bytes, then the results of fixture_merges, then
 * fixture_specials. The SentencePiece-style one: <unk>, <s>, </s>, the byte tokens, then
 * fixture_pieces with falling scores. */
#ifndef ENGINE_TOKENIZER_FIXTURES_H
#define ENGINE_TOKENIZER_FIXTURES_H

#include <stdio.h>

#include "engine/gguf.h"
#include "engine/gguf_writer.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer_unicode.h"

/* "\u0120" is the letter of a space, "\u010a" that of a newline. */
static const char *const fixture_merges[] = {
    "h e",
    "l l",
    "he ll",
    "hell o",
    "\u0120 w",
    "o r",
    "\u0120w or",
    "\u0120wor ld",
    "l d",
    "a a",
    "aa aa",
    "\u0120 \u0120",
    "\u0120\u0120 \u0120\u0120",
    "1 2",
    "12 3",
    "1 23",
    "2 3",
    "\u00c3 \u00a9",
    "\u010a \u010a",
};
/* Control tokens, but for the last, which is user-defined. */
static const char *const fixture_specials[] = {"<|bos|>", "<|im_end|>", "<|im_start|>", "<tool>"};

enum {
    FIXTURE_NUM_MERGES = ARRAY_LEN(fixture_merges),
    FIXTURE_NUM_SPECIALS = ARRAY_LEN(fixture_specials),
    FIXTURE_TOKENS_MAX = 512,
};

struct fixture {
    char *tokens[FIXTURE_TOKENS_MAX]; /* owned */
    int32_t types[FIXTURE_TOKENS_MAX];
    float scores[FIXTURE_TOKENS_MAX];
    uint32_t num_tokens;
};

static inline void fixture_deinit(struct fixture *f) {
    for (uint32_t i = 0; i < f->num_tokens; i++)
        free(f->tokens[i]);
    f->num_tokens = 0;
}

/* Adds a token unless it is there; gives its id. */
static inline int32_t fixture_add(struct fixture *f, const char *text, int32_t type) {
    for (uint32_t i = 0; i < f->num_tokens; i++)
        if (!strcmp(f->tokens[i], text))
            return (int32_t)i;
    ASSERT(f->num_tokens < FIXTURE_TOKENS_MAX);
    f->types[f->num_tokens] = type;
    f->scores[f->num_tokens] = -(float)f->num_tokens;
    f->tokens[f->num_tokens] = mem_strdup(text);
    return (int32_t)f->num_tokens++;
}

static inline int32_t fixture_id(const struct fixture *f, const char *text) {
    for (uint32_t i = 0; i < f->num_tokens; i++)
        if (!strcmp(f->tokens[i], text))
            return (int32_t)i;
    return -1;
}

static inline char *fixture_letter(int byte) {
    bool shown = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    uint32_t code = (uint32_t)byte;
    if (!shown)
        code = byte <= 0x20 ? 0x100 + code : byte <= 0xA0 ? 0x121 + code - 0x7F : 0x143;
    struct buf b = BUF_INIT;
    utf8_append(&b, code);
    return buf_steal(&b);
}

static inline void fixture_byte_level(struct fixture *f) {
    *f = (struct fixture){0};
    for (int byte = 0; byte < 256; byte++) {
        AUTO_FREE char *letter = fixture_letter(byte);
        fixture_add(f, letter, 1);
    }
    for (size_t i = 0; i < FIXTURE_NUM_MERGES; i++) {
        const char *space = strchr(fixture_merges[i], ' ');
        AUTO_FREE char *joined =
            mem_printf("%.*s%s", (int)(space - fixture_merges[i]), fixture_merges[i], space + 1);
        fixture_add(f, joined, 1);
    }
    for (size_t i = 0; i < FIXTURE_NUM_SPECIALS; i++)
        fixture_add(f, fixture_specials[i], i + 1 < FIXTURE_NUM_SPECIALS ? 3 : 4);
}

/* Pieces that join to "<s>" and "<0x41>" are there to tempt the joining into control and byte
 * tokens. */
static inline void fixture_spm(struct fixture *f) {
    static const char *const pieces[] = {
        "\u2581the", "\u2581th", "\u2581t", "he",    "th",    "\u2581\u2581",
        "<s",        "<0",       "<0x",     "<0x4",  "<0x41", "ab",
        "abc",       "\u2581",   "t",       "h",     "e",     "a",
        "b",         "c",        "<",       "s",     ">",     "0",
        "x",         "4",        "1",       "\u00e9"};
    *f = (struct fixture){0};
    fixture_add(f, "<unk>", 2);
    fixture_add(f, "<s>", 3);
    fixture_add(f, "</s>", 3);
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof(name), "<0x%02X>", byte);
        fixture_add(f, name, 6);
    }
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
        fixture_add(f, pieces[i], 1);
    fixture_add(f, "<extra>", 4);
    fixture_add(f, "\u2581\u2581x", 4);
}

static inline void fixture_put_bool(struct gguf_writer *w, const char *key, bool v) {
    uint8_t byte = v;
    gguf_put(w, key, 7, &byte, 1);
}

static inline void fixture_put_f32s(struct gguf_writer *w, const char *key, uint64_t len,
                                    const float *v) {
    gguf_put_array_header(w, key, 6, len);
    buf_append(&w->pairs, v, len * sizeof(*v));
}

static inline void fixture_put_tokens(struct gguf_writer *w, const struct fixture *f) {
    gguf_put_strings(w, "tokenizer.ggml.tokens", f->num_tokens, (const char *const *)f->tokens);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", f->num_tokens, f->types);
}

/* Writes the keys of a byte-level tokenizer; the caller may add more, then finishes. */
static inline void fixture_put_byte_level(struct gguf_writer *w, const struct fixture *f,
                                          const char *pre) {
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(w, "tokenizer.ggml.pre", pre);
    fixture_put_tokens(w, f);
    gguf_put_strings(w, "tokenizer.ggml.merges", FIXTURE_NUM_MERGES, fixture_merges);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)fixture_id(f, "<|bos|>"));
    fixture_put_bool(w, "tokenizer.ggml.add_bos_token", true);
}

static inline void fixture_put_spm(struct gguf_writer *w, const struct fixture *f) {
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    fixture_put_tokens(w, f);
    fixture_put_f32s(w, "tokenizer.ggml.scores", f->num_tokens, f->scores);
}

/* Finishes the writer, opens the tokenizer, and releases the writer. */
static inline enum errc fixture_open(struct gguf_writer *w, struct tokenizer **ret_tk,
                                     struct error *err) {
    gguf_writer_finish(w);
    AUTO(gguf) g = NULL;
    enum errc rc = gguf_open_memory("fixture", w->file.data, w->file.len, &g, err);
    if (!rc)
        rc = tokenizer_from_gguf(g, ret_tk, err);
    gguf_writer_deinit(w);
    return rc;
}

#endif
