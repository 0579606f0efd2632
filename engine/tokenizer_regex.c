/* Regular expressions, by PCRE2 with its JIT compiler where the machine allows one.
 *
 * The dialects differ in little that tokenizers use; translate() rewrites it: \s and \S stand for
 * Unicode's White_Space (PCRE2's also takes U+180E), \uXXXX is \x{XXXX}, \p{Han} asks for the
 * script proper (PCRE2's looks at script extensions). What would be read otherwise without an
 * error, nested character sets and &&, is refused.
 *
 * Searches are bounded: a pattern from a model file that explodes on some text costs an error, and
 * no crash, because the interpreter that takes over when the JIT's stack ends keeps its state on
 * the heap, up to a limit. */
#include "engine/tokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct tokenizer_regex {
    pcre2_code *code;
};

struct regex_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

#define WHITE_SPACE                                                                                \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"

/* Appends the translation of the escape at *p, which stands behind a backslash, and moves on. */
static void translate_escape(const char **p, bool in_set, struct buf *out) {
    const char *s = *p;
    if (*s == 's') {
        buf_puts(out, in_set ? WHITE_SPACE : "[" WHITE_SPACE "]");
    } else if (*s == 'S' && !in_set) {
        buf_puts(out, "[^" WHITE_SPACE "]");
    } else if (*s == 'u' && strspn(s + 1, "0123456789abcdefABCDEF") >= 4) {
        buf_printf(out, "\\x{%.4s}", s + 1);
        s += 4;
    } else if ((*s == 'p' || *s == 'P') && s[1] == '{' && strspn(s + 2, "^") < 2) {
        const char *name = s + 2 + (s[2] == '^');
        size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
        bool script = len > 2 && name[len] == '}' && strncmp(name, "Any}", 4) != 0;
        buf_printf(out, "\\%c{%s%s", *s, s[2] == '^' ? "^" : "", script ? "sc:" : "");
        s = name - 1;
    } else {
        buf_printf(out, "\\%c", *s);
    }
    *p = s + 1;
}

static enum errc translate(const char *pattern, struct buf *out, struct error *err) {
    bool in_set = false;
    for (const char *p = pattern; *p;) {
        if (p[0] == '\\' && p[1]) {
            p++;
            translate_escape(&p, in_set, out);
            continue;
        }
        if (in_set && ((p[0] == '[' && p[1] != ':') || (p[0] == '&' && p[1] == '&')))
            return err_set(err, ERR_INVALID,
                           "regular expression, offset %td: sets inside sets are not supported",
                           p - pattern);
        if (!in_set && p[0] == '[') {
            in_set = true;
            buf_putc(out, *p++);
            if (*p == '^')
                buf_putc(out, *p++);
            if (*p == ']')
                buf_putc(out, *p++);
            continue;
        }
        if (in_set && p[0] == '[') { /* [:alpha:] */
            const char *end = strstr(p, ":]");
            size_t len = end ? (size_t)(end + 2 - p) : strlen(p);
            buf_append(out, p, len);
            p += len;
            continue;
        }
        if (p[0] == ']')
            in_set = false;
        buf_putc(out, *p++);
    }
    return OK;
}

enum errc tokenizer_regex_create(const char *pattern, struct tokenizer_regex **ret_re,
                                 struct error *err) {
    size_t len = strlen(pattern);
    if (len > TOKENIZER_REGEX_BYTES_MAX)
        return err_set(err, ERR_INVALID, "regular expression: %zu bytes, at most %d are possible",
                       len, TOKENIZER_REGEX_BYTES_MAX);
    AUTO_BUF translated = BUF_INIT;
    if (translate(pattern, &translated, err))
        return err->code;
    int code;
    PCRE2_SIZE offset;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)translated.data, translated.len,
                                   PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!re) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof(why));
        return err_set(err, ERR_INVALID, "regular expression \"%.200s\", offset %zu: %s",
                       translated.data, (size_t)offset, (char *)why);
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* refused: the interpreter does it, slower */
    struct tokenizer_regex *r = mem_alloc(sizeof(*r));
    r->code = re;
    *ret_re = r;
    return OK;
}

void tokenizer_regex_destroy(struct tokenizer_regex *re) {
    if (!re)
        return;
    pcre2_code_free(re->code);
    free(re);
}

struct regex_matcher *regex_matcher_create(void) {
    struct regex_matcher *m = mem_alloc(sizeof(*m));
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    ASSERT(m->data && m->context);
    pcre2_set_match_limit(m->context, TOKENIZER_REGEX_STEPS_MAX);
    pcre2_set_heap_limit(m->context, TOKENIZER_REGEX_HEAP_KIB_MAX);
    return m;
}

void regex_matcher_destroy(struct regex_matcher *m) {
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    free(m);
}

enum errc tokenizer_regex_search(const struct tokenizer_regex *re, struct regex_matcher *m,
                                 const char *text, size_t len, size_t from,
                                 struct regex_match *ret_match, struct error *err) {
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int rc = pcre2_match(re->code, (PCRE2_SPTR)text, len, from, options, m->data, m->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(re->code, (PCRE2_SPTR)text, len, from, options | PCRE2_NO_JIT, m->data,
                         m->context);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *ret_match = (struct regex_match){.start = len, .end = len};
        return OK;
    }
    if (rc < 0) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(rc, why, sizeof(why));
        return err_set(err, ERR_EXHAUSTED, "split text of %zu bytes at byte %zu: %s", len, from,
                       (char *)why);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
    *ret_match = (struct regex_match){.start = span[0], .end = span[1]};
    if (span[0] > span[1]) /* \K in a lookahead can do that */
        ret_match->end = span[0];
    return OK;
}
