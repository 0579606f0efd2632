/* `inferd tokenize`, for people who look at prompts and for tests.
 *
 *   --model REF           a .gguf (vocabulary-only files too), a Hugging Face directory, a
 *                         tokenizer.json, a tokenizer.model, or any reference that serving takes
 *   --add-special         put BOS and its kin around the text, as the model wants them
 *   --parse-special       "<|im_end|>" in the text is that token
 *   --decode              ids (a JSON list, or numbers with space between) to text
 *   --skip-special        leave special tokens out of decoded text
 *   --clean-up-spaces     decoded text as Hugging Face's clean_up_tokenization_spaces makes it
 *   --json                ids as one JSON list, decoded text as one JSON string
 *
 * Text in and decoded text out are bytes as they are: no newline is taken off or put on. */
#include "engine/tokenize_command.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/model_path.h"
#include "engine/model.h"
#include "engine/tokenizer.h"
#include "engine/tokenizer_unicode.h"

static const char usage[] =
    "usage: inferd tokenize --model PATH [--add-special] [--parse-special] [--json]\n"
    "       inferd tokenize --model PATH --decode [--skip-special] [--clean-up-spaces] [--json]\n";

struct options {
    const char *model;
    struct tokenizer_encode_options encode;
    bool decode, skip_special, clean_up_spaces, json;
};

/* False: not understood, and said so. */
static bool parse_options(int argc, char **argv, struct options *opt) {
    enum { MODEL = 1, ADD_SPECIAL, PARSE_SPECIAL, DECODE, SKIP_SPECIAL, CLEAN_UP_SPACES, JSON };
    static const struct option known[] = {
        {"model", required_argument, NULL, MODEL},
        {"add-special", no_argument, NULL, ADD_SPECIAL},
        {"parse-special", no_argument, NULL, PARSE_SPECIAL},
        {"decode", no_argument, NULL, DECODE},
        {"skip-special", no_argument, NULL, SKIP_SPECIAL},
        {"clean-up-spaces", no_argument, NULL, CLEAN_UP_SPACES},
        {"json", no_argument, NULL, JSON},
        {0},
    };
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case MODEL:
            opt->model = optarg;
            break;
        case ADD_SPECIAL:
            opt->encode.add_special = true;
            break;
        case PARSE_SPECIAL:
            opt->encode.parse_special = true;
            break;
        case DECODE:
            opt->decode = true;
            break;
        case SKIP_SPECIAL:
            opt->skip_special = true;
            break;
        case CLEAN_UP_SPACES:
            opt->clean_up_spaces = true;
            break;
        case JSON:
            opt->json = true;
            break;
        default:
            return false; /* getopt_long said why */
        }
    }
    if (optind < argc)
        fprintf(stderr, "tokenize: \"%s\" is not an option\n", argv[optind]);
    else if (!opt->model)
        fprintf(stderr, "tokenize: --model is missing\n");
    return optind == argc && opt->model;
}

static enum errc read_stdin(struct buf *text, struct error *err) {
    for (;;) {
        buf_reserve(text, 65536);
        ssize_t n = read(STDIN_FILENO, text->data + text->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "read stdin");
        if (!n)
            return OK;
        text->len += (size_t)n;
        text->data[text->len] = '\0';
        if (text->len > TOKENIZER_TEXT_BYTES_MAX)
            return err_set(err, ERR_TOO_LARGE, "stdin: more than %d bytes",
                           TOKENIZER_TEXT_BYTES_MAX);
    }
}

static bool has_suffix(const char *s, const char *suffix) {
    size_t len = strlen(s), n = strlen(suffix);
    return len >= n && !strcmp(s + len - n, suffix);
}

static enum errc open_tokenizer(const char *reference, struct tokenizer **ret_tk,
                                struct error *err) {
    AUTO_FREE char *path = NULL;
    if (model_path_resolve(reference, &(struct model_path_options){0}, &path, err))
        return err->code;
    if (has_suffix(path, ".json") || has_suffix(path, ".model"))
        return tokenizer_from_file(path, ret_tk, err);
    return model_open_tokenizer(path, ret_tk, err);
}

/* Reads "[1, 2, 3]" or "1 2 3"; every id must be in the vocabulary. */
static enum errc parse_ids(const struct tokenizer *tk, const struct buf *text,
                           struct token_ids *ids, struct error *err) {
    const char *s = text->len ? text->data : "";
    for (;;) {
        s += strspn(s, "[], \t\r\n");
        if (!*s)
            break;
        char *end;
        errno = 0;
        long id = strtol(s, &end, 10);
        if (end == s || errno || (*end && !strchr("[], \t\r\n", *end)))
            return err_set(err, ERR_MALFORMED, "stdin, byte %td: not a token id", s - text->data);
        if (id < 0 || id >= (long)tokenizer_vocab_size(tk))
            return err_set(err, ERR_INVALID, "token id %ld: the vocabulary has 0 to %u", id,
                           tokenizer_vocab_size(tk) - 1);
        token_ids_push(ids, (int32_t)id);
        s = end;
    }
    if ((size_t)(s - (text->len ? text->data : "")) != text->len)
        return err_set(err, ERR_MALFORMED, "stdin, byte %td: a NUL byte is no token id",
                       s - text->data);
    return OK;
}

static enum errc decode(const struct tokenizer *tk, const struct options *opt, const struct buf *in,
                        struct buf *out, struct error *err) {
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    AUTO_BUF text = BUF_INIT;
    if (parse_ids(tk, in, &ids, err))
        return err->code;
    tokenizer_decode(tk, ids.data, ids.len, opt->skip_special, &text);
    if (opt->clean_up_spaces)
        tokenizer_clean_up_spaces(&text);
    if (!opt->json) {
        buf_append(out, text.data, text.len);
        return OK;
    }
    AUTO_BUF repaired = BUF_INIT;
    utf8_append_repaired(&repaired, text.data, text.len);
    json_t *string = json_stringn(repaired.len ? repaired.data : "", repaired.len);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY);
    buf_printf(out, "%s\n", quoted);
    free(quoted);
    json_decref(string);
    return OK;
}

static enum errc encode(const struct tokenizer *tk, const struct options *opt, const struct buf *in,
                        struct buf *out, struct error *err) {
    AUTO_TOKEN_IDS ids = TOKEN_IDS_INIT;
    if (tokenizer_encode(tk, in->len ? in->data : "", in->len, opt->encode, &ids, err))
        return err->code;
    for (size_t i = 0; i < ids.len; i++)
        buf_printf(out, "%s%d%s",
                   opt->json && i ? ", "
                   : opt->json    ? "["
                                  : "",
                   ids.data[i], opt->json ? "" : "\n");
    if (opt->json)
        buf_puts(out, ids.len ? "]\n" : "[]\n");
    return OK;
}

static enum errc run(const struct options *opt, struct buf *out, struct error *err) {
    AUTO(tokenizer) tk = NULL;
    AUTO_BUF in = BUF_INIT;
    if (open_tokenizer(opt->model, &tk, err) || read_stdin(&in, err))
        return err->code;
    return opt->decode ? decode(tk, opt, &in, out, err) : encode(tk, opt, &in, out, err);
}

int tokenize_command(int argc, char **argv) {
    struct options opt = {0};
    struct error err = ERROR_INIT;
    AUTO_BUF out = BUF_INIT;
    if (!parse_options(argc, argv, &opt)) {
        fputs(usage, stderr);
        return 2;
    }
    if (run(&opt, &out, &err)) {
        fprintf(stderr, "tokenize: %s\n", err.text);
        return 1;
    }
    if (fwrite(out.data ? out.data : "", 1, out.len, stdout) != out.len || fflush(stdout)) {
        fprintf(stderr, "tokenize: write stdout: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
