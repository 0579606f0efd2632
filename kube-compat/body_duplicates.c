/* A parser keeps the last of two equal keys and says that there were two, not where. This walk over
 * the same text finds the places: it remembers the keys of each object that is open, and the path
 * to it. It runs only when the parser has complained, on text that is JSON and no deeper than the
 * parser's bound. */
#include "kube-compat/body_duplicates.h"

#include "kube-compat/schema.h"

struct scan {
    const char *at, *end;
    struct buf path;
    json_t *found;
};

/* The parser passes over a NUL behind a token; so does this. */
static bool is_space(char c) {
    return c == '\0' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(struct scan *s) {
    while (s->at < s->end && is_space(*s->at))
        s->at++;
}

/* Does c end a number or a word? */
static bool ends_scalar(char c) {
    return is_space(c) || c == ',' || c == ']' || c == '}';
}

/* Takes `c` when it is next. */
static bool take(struct scan *s, char c) {
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* Skips a string and gives it as JSON (a reference); it stands at the quote. */
static json_t *read_string(struct scan *s) {
    const char *start = s->at++;
    while (s->at < s->end && *s->at != '"')
        s->at += *s->at == '\\' ? 2 : 1;
    s->at = s->at < s->end ? s->at + 1 : s->end;
    return json_loadb(start, (size_t)(s->at - start), JSON_DECODE_ANY, NULL);
}

static void pop(struct scan *s, size_t was) {
    s->path.len = was;
    s->path.data[was] = '\0';
}

static void scan_value(struct scan *s);

static void scan_member(struct scan *s, json_t *seen) {
    skip_space(s);
    json_t *key = read_string(s);
    const char *name = json_string_value(key);
    size_t was = s->path.len;
    buf_printf(&s->path, "%s%s", was ? "." : "", name ? name : "");
    if (name && json_object_get(seen, name) && json_array_size(s->found) < SCHEMA_FINDINGS_MAX)
        json_array_append_new(s->found, json_sprintf("duplicate field \"%s\"", s->path.data));
    if (name)
        json_object_set_new(seen, name, json_true());
    json_decref(key);
    take(s, ':');
    scan_value(s);
    pop(s, was);
}

static void scan_value(struct scan *s) {
    size_t was = s->path.len;
    if (take(s, '{')) {
        json_t *seen = json_object();
        while (s->at < s->end && !take(s, '}')) {
            scan_member(s, seen);
            take(s, ',');
        }
        json_decref(seen);
    } else if (take(s, '[')) {
        for (size_t i = 0; s->at < s->end && !take(s, ']'); i++) {
            buf_printf(&s->path, "[%zu]", i);
            scan_value(s);
            pop(s, was);
            take(s, ',');
        }
    } else if (s->at < s->end && *s->at == '"') {
        json_decref(read_string(s));
    } else if (s->at < s->end) {
        do
            s->at++; /* whatever it is, the walk goes on */
        while (s->at < s->end && !ends_scalar(*s->at));
    }
}

void body_find_duplicates(const char *text, size_t len, json_t *found) {
    struct scan s = {.at = text, .end = text + len, .found = found};
    buf_puts(&s.path, "");
    scan_value(&s);
    buf_deinit(&s.path);
}
