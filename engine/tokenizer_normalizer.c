/* Normalizer. Every step reads one buffer and writes another, then the two change places; ASCII
 * text skips the steps that cannot change it. */
#include "engine/tokenizer_normalizer.h"

#include "engine/tokenizer_regex.h"
#include "engine/tokenizer_unicode.h"

static void step_deinit(const struct normalizer_step *s) {
    free(s->pattern);
    free(s->content);
    tokenizer_regex_destroy(s->regex);
}

void normalizer_deinit(struct normalizer *n) {
    for (uint32_t i = 0; i < n->num_steps; i++)
        step_deinit(&n->steps[i]);
    memset(n, 0, sizeof(*n));
}

enum errc normalizer_add(struct normalizer *n, const struct normalizer_step *step,
                         struct error *err) {
    if (n->num_steps == NORMALIZER_STEPS_MAX) {
        step_deinit(step);
        return err_set(err, ERR_INVALID, "more than %d normalizer steps", NORMALIZER_STEPS_MAX);
    }
    n->steps[n->num_steps++] = *step;
    return OK;
}

static bool is_ascii(const struct buf *text) {
    for (size_t i = 0; i < text->len; i++)
        if ((unsigned char)text->data[i] >= 0x80)
            return false;
    return true;
}

/* Appends what the per-character steps leave of `code`, whose bytes are s[0..n). */
static void rewrite_character(enum normalizer_kind kind, uint32_t code, const char *s, size_t n,
                              struct buf *out) {
    if (kind == NORMALIZE_DROP_MARKS) {
        if (!unicode_is_mark(code))
            buf_append(out, s, n);
    } else if (kind == NORMALIZE_CLEAN) {
        if (unicode_is_space(code))
            buf_putc(out, ' ');
        else if (code && code != 0xFFFD && !unicode_is_control(code))
            buf_append(out, s, n);
    } else if (unicode_is_ideograph(code)) {
        buf_putc(out, ' ');
        buf_append(out, s, n);
        buf_putc(out, ' ');
    } else {
        buf_append(out, s, n);
    }
}

static void rewrite_characters(enum normalizer_kind kind, const struct buf *text, struct buf *out) {
    for (size_t i = 0; i < text->len;) {
        uint32_t code;
        size_t n = utf8_next(text->data + i, text->len - i, &code);
        ASSERT(n);
        rewrite_character(kind, code, text->data + i, n, out);
        i += n;
    }
}

static void strip(const struct normalizer_step *step, const struct buf *text, struct buf *out) {
    size_t start = 0, end = text->len, last = 0;
    bool seen = false;
    for (size_t i = 0; i < text->len;) {
        uint32_t code;
        size_t n = utf8_next(text->data + i, text->len - i, &code);
        ASSERT(n);
        if (!unicode_is_space(code)) {
            start = seen ? start : i;
            last = i + n;
            seen = true;
        }
        i += n;
    }
    if (!seen)
        start = text->len;
    if (!step->strip_left)
        start = 0;
    if (step->strip_right)
        end = last > start ? last : start;
    buf_append(out, text->data + start, end - start);
}

static void collapse_spaces(const struct buf *text, struct buf *out) {
    for (size_t i = 0; i < text->len; i++)
        if (text->data[i] != ' ' || (out->len && out->data[out->len - 1] != ' '))
            buf_putc(out, text->data[i]);
    if (out->len && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
}

static enum errc replace_string(const struct normalizer_step *step, const struct buf *text,
                                size_t len_max, struct buf *out, struct error *err) {
    size_t width = strlen(step->pattern);
    size_t done = 0;
    while (done < text->len) {
        const char *at = memmem(text->data + done, text->len - done, step->pattern, width);
        size_t start = at ? (size_t)(at - text->data) : text->len;
        buf_append(out, text->data + done, start - done);
        if (at)
            buf_puts(out, step->content);
        if (out->len > len_max)
            return err_set(err, ERR_TOO_LARGE, "normalized text grew beyond %zu bytes", len_max);
        done = at ? start + width : text->len;
    }
    return OK;
}

static enum errc replace_regex(const struct normalizer_step *step, const struct buf *text,
                               size_t len_max, struct buf *out, struct error *err) {
    AUTO(regex_matcher) matcher = regex_matcher_create();
    size_t done = 0;
    for (size_t from = 0; from < text->len;) {
        struct regex_match m;
        if (tokenizer_regex_search(step->regex, matcher, text->data, text->len, from, &m, err))
            return err->code;
        if (m.start == m.end) { /* nothing found, or an empty match, which replaces nothing */
            uint32_t code;
            from = m.start + (m.start < text->len
                                  ? utf8_next(text->data + m.start, text->len - m.start, &code)
                                  : 0);
            continue;
        }
        buf_append(out, text->data + done, m.start - done);
        buf_puts(out, step->content);
        if (out->len > len_max)
            return err_set(err, ERR_TOO_LARGE, "normalized text grew beyond %zu bytes", len_max);
        from = done = m.end;
    }
    buf_append(out, text->data + done, text->len - done);
    return OK;
}

static enum errc run_step(const struct normalizer_step *step, const struct buf *text,
                          size_t len_max, struct buf *out, struct error *err) {
    static const enum unicode_form forms[] = {
        [NORMALIZE_FORM_C] = UNICODE_NFC,
        [NORMALIZE_FORM_D] = UNICODE_NFD,
        [NORMALIZE_FORM_KC] = UNICODE_NFKC,
        [NORMALIZE_FORM_KD] = UNICODE_NFKD,
    };
    switch (step->kind) {
    case NORMALIZE_FORM_C:
    case NORMALIZE_FORM_D:
    case NORMALIZE_FORM_KC:
    case NORMALIZE_FORM_KD:
        return unicode_normalize(forms[step->kind], text->data, text->len, out, err);
    case NORMALIZE_LOWERCASE:
        unicode_append_lower(out, text->data, text->len);
        return OK;
    case NORMALIZE_DROP_MARKS:
    case NORMALIZE_CLEAN:
    case NORMALIZE_SPACE_IDEOGRAPHS:
        rewrite_characters(step->kind, text, out);
        return OK;
    case NORMALIZE_STRIP:
        strip(step, text, out);
        return OK;
    case NORMALIZE_COLLAPSE_SPACES:
        collapse_spaces(text, out);
        return OK;
    case NORMALIZE_PREPEND:
        buf_puts(out, step->content);
        buf_append(out, text->data, text->len);
        return OK;
    case NORMALIZE_REPLACE:
        return step->regex ? replace_regex(step, text, len_max, out, err)
                           : replace_string(step, text, len_max, out, err);
    }
    return OK;
}

static bool leaves_ascii_alone(enum normalizer_kind kind) {
    return kind <= NORMALIZE_FORM_KD || kind == NORMALIZE_DROP_MARKS ||
           kind == NORMALIZE_SPACE_IDEOGRAPHS;
}

enum errc normalizer_run(const struct normalizer *n, struct buf *text, struct buf *spare,
                         struct error *err) {
    size_t len_max = (text->len + 16) * NORMALIZER_GROWTH_MAX;
    for (uint32_t i = 0; i < n->num_steps && text->len; i++) {
        if (leaves_ascii_alone(n->steps[i].kind) && is_ascii(text))
            continue;
        buf_clear(spare);
        if (run_step(&n->steps[i], text, len_max, spare, err))
            return err->code;
        struct buf was = *text;
        *text = *spare;
        *spare = was;
    }
    return OK;
}
