/* Pre-tokenizer. A pretoken is a span of the workspace's text. A split only makes spans finer; the
 * two steps that change text (a space in front, "\u2581" for spaces) write a new text and new spans
 * into the spare half of the workspace, and the halves change places.
 *
 * Every span is searched alone, so a look-ahead sees its end: that is how Hugging Face's sequence
 * of pre-tokenizers and llama.cpp's list of expressions are defined. */
#include "engine/tokenizer_pretokenizer.h"

#include "engine/tokenizer_regex.h"
#include "engine/tokenizer_unicode.h"

void pretokenizer_deinit(struct pretokenizer *p) {
    for (uint32_t i = 0; i < p->num_steps; i++) {
        tokenizer_regex_destroy(p->steps[i].regex);
        free(p->steps[i].replacement);
    }
    memset(p, 0, sizeof(*p));
}

enum errc pretokenizer_add_step(struct pretokenizer *p, const struct pretokenizer_step *step,
                                struct error *err) {
    if (p->num_steps == PRETOKENIZER_STEPS_MAX) {
        free(step->replacement);
        return err_set(err, ERR_INVALID, "more than %d pre-tokenizer steps",
                       PRETOKENIZER_STEPS_MAX);
    }
    p->steps[p->num_steps++] = *step;
    return OK;
}

enum errc pretokenizer_add_split(struct pretokenizer *p, const char *pattern,
                                 enum split_behavior behavior, bool invert, struct error *err) {
    struct pretokenizer_step step = {.kind = STEP_SPLIT, .behavior = behavior, .invert = invert};
    AUTO(tokenizer_regex) re = NULL;
    if (tokenizer_regex_create(pattern, &re, err))
        return err->code;
    step.regex = re;
    if (pretokenizer_add_step(p, &step, err))
        return err->code;
    re = NULL;
    return OK;
}

void pretokens_deinit(struct pretokens *t) {
    buf_deinit(&t->text);
    buf_deinit(&t->text_spare);
    free(t->data);
    free(t->spare);
    regex_matcher_destroy(t->matcher);
    *t = (struct pretokens){0};
}

static void keep(struct pretokens *t, size_t start, size_t end) {
    if (start == end)
        return;
    if (t->spare_len == t->spare_cap) {
        t->spare_cap = t->spare_cap ? t->spare_cap * 2 : 64;
        t->spare = mem_realloc(t->spare, t->spare_cap * sizeof(*t->spare));
    }
    t->spare[t->spare_len++] =
        (struct pretoken){.start = (uint32_t)start, .len = (uint32_t)(end - start)};
}

/* The spans that were kept become the current ones. */
static void turn_over(struct pretokens *t) {
    struct pretoken *data = t->data;
    size_t cap = t->cap;
    t->data = t->spare;
    t->len = t->spare_len;
    t->cap = t->spare_cap;
    t->spare = data;
    t->spare_cap = cap;
    t->spare_len = 0;
}

static void turn_over_text(struct pretokens *t) {
    struct buf text = t->text;
    t->text = t->text_spare;
    t->text_spare = text;
    turn_over(t);
}

/* Applies a split's behavior to the pieces of one span, which come in order, matches and gaps. */
struct splitter {
    struct pretokens *t;
    enum split_behavior behavior;
    size_t held_start, held_end; /* a piece that may still grow; empty: none */
    bool held_match;
};

static void release(struct splitter *s) {
    keep(s->t, s->held_start, s->held_end);
    s->held_start = s->held_end;
}

static void take_piece(struct splitter *s, size_t start, size_t end, bool match) {
    if (start == end)
        return;
    bool joins;
    switch (s->behavior) {
    case SPLIT_REMOVED:
        if (!match)
            keep(s->t, start, end);
        return;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = match && !s->held_match;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = !match && s->held_match;
        break;
    case SPLIT_CONTIGUOUS:
        joins = match == s->held_match;
        break;
    default:
        keep(s->t, start, end);
        return;
    }
    if (s->held_start == s->held_end || !joins) {
        release(s);
        s->held_start = start;
    }
    s->held_end = end;
    s->held_match = match;
}

static enum errc split_span(const struct pretokenizer_step *step, struct pretokens *t,
                            const struct pretoken *span, struct error *err) {
    const char *text = t->text.data + span->start;
    struct splitter s = {.t = t, .behavior = step->behavior};
    size_t done = 0;
    for (size_t from = 0; from < span->len;) {
        struct regex_match m;
        if (tokenizer_regex_search(step->regex, t->matcher, text, span->len, from, &m, err))
            return err->code;
        if (m.start == m.end) { /* nothing found, or an empty match: on by one character */
            uint32_t code;
            from =
                m.start +
                (m.start < span->len ? utf8_next(text + m.start, span->len - m.start, &code) : 0);
            continue;
        }
        take_piece(&s, span->start + done, span->start + m.start, step->invert);
        take_piece(&s, span->start + m.start, span->start + m.end, !step->invert);
        from = done = m.end;
    }
    take_piece(&s, span->start + done, span->start + span->len, step->invert);
    release(&s);
    return OK;
}

static void add_prefix_space(struct pretokens *t) {
    buf_clear(&t->text_spare);
    for (size_t i = 0; i < t->len; i++) {
        const char *text = t->text.data + t->data[i].start;
        size_t start = t->text_spare.len;
        if (*text != ' ')
            buf_putc(&t->text_spare, ' ');
        buf_append(&t->text_spare, text, t->data[i].len);
        keep(t, start, t->text_spare.len);
    }
    turn_over_text(t);
}

/* Keeps text_spare[start..end) cut before each replacement. */
static void keep_before_each(const struct pretokenizer_step *step, struct pretokens *t,
                             size_t start) {
    size_t width = strlen(step->replacement), end = t->text_spare.len;
    const char *text = t->text_spare.data;
    for (size_t i = start + 1; i + width <= end; i++) {
        if (!memcmp(text + i, step->replacement, width)) {
            keep(t, start, i);
            start = i;
        }
    }
    keep(t, start, end);
}

static void replace_spaces(const struct pretokenizer_step *step, struct pretokens *t,
                           bool is_first) {
    size_t width = strlen(step->replacement);
    buf_clear(&t->text_spare);
    for (size_t i = 0; i < t->len; i++) {
        const char *text = t->text.data + t->data[i].start;
        size_t len = t->data[i].len, start = t->text_spare.len;
        bool has_one = *text == ' ' || (len >= width && !memcmp(text, step->replacement, width));
        bool wants = step->prepend == PREPEND_ALWAYS ||
                     (step->prepend == PREPEND_FIRST && is_first && i == 0);
        if (wants && !has_one)
            buf_append(&t->text_spare, step->replacement, width);
        for (size_t k = 0; k < len; k++) {
            if (text[k] == ' ')
                buf_append(&t->text_spare, step->replacement, width);
            else
                buf_putc(&t->text_spare, text[k]);
        }
        if (step->split)
            keep_before_each(step, t, start);
        else
            keep(t, start, t->text_spare.len);
    }
    turn_over_text(t);
}

enum errc pretokenizer_run(const struct pretokenizer *p, struct pretokens *t, bool is_first,
                           struct error *err) {
    t->spare_len = 0;
    keep(t, 0, t->text.len);
    turn_over(t);
    if (!t->matcher)
        t->matcher = regex_matcher_create();
    for (uint32_t i = 0; i < p->num_steps; i++) {
        const struct pretokenizer_step *step = &p->steps[i];
        if (step->kind == STEP_PREFIX_SPACE) {
            add_prefix_space(t);
        } else if (step->kind == STEP_METASPACE) {
            replace_spaces(step, t, is_first);
        } else {
            for (size_t k = 0; k < t->len; k++)
                if (split_span(step, t, &t->data[k], err))
                    return err->code;
            turn_over(t);
        }
    }
    return OK;
}
