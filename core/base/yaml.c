/* YAML to JSON and back: the sole user of libyaml.
 *
 * Reading follows what Kubernetes' clients mean by YAML: the JSON data model written differently.
 * A plain scalar is typed by YAML 1.1's core rules as sigs.k8s.io/yaml applies them (so `yes` is a
 * boolean and 0o17 is not a number), a quoted one is a string, keys are strings. Anchors are
 * resolved by copying; the total number of nodes is bounded, so a "billion laughs" document ends
 * with an error instead of memory.
 *
 * Writing emits block style and quotes every string that would read as something else. */
#include "core/base/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <yaml.h>

#include "core/base/buf.h"

enum { SIMPLE_KEY_BYTES_MAX = 1000 }; /* below YAML's 1024 characters, quotes and all */

struct anchor {
    struct anchor *next;
    char *name;
    json_t *value;
};

struct reader {
    yaml_parser_t parser;
    struct anchor *anchors;
    uint32_t num_nodes;
    struct error *err;
};

static enum errc fail(struct reader *r, const yaml_mark_t *mark, const char *what) {
    return err_set(r->err, ERR_MALFORMED, "yaml: line %zu column %zu: %s", mark->line + 1,
                   mark->column + 1, what);
}

static enum errc next_event(struct reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event))
        return OK;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_READER_ERROR)
        return err_set(r->err, ERR_MALFORMED, "yaml: byte %zu: %s", p->problem_offset,
                       p->problem ? p->problem : "unreadable");
    return fail(r, &p->problem_mark, p->problem ? p->problem : "cannot parse");
}

static bool one_of(const char *s, const char *const *words) {
    for (; *words; words++) {
        if (!strcmp(s, *words))
            return true;
    }
    return false;
}

static bool is_true(const char *s) {
    static const char *const words[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
                                        "on",   "On",   "ON",   "y",   "Y",   NULL};
    return one_of(s, words);
}

static bool is_false(const char *s) {
    static const char *const words[] = {"false", "False", "FALSE", "no", "No", "NO",
                                        "off",   "Off",   "OFF",   "n",  "N",  NULL};
    return one_of(s, words);
}

static bool is_null(const char *s) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return one_of(s, words);
}

/* A decimal, 0x, 0o, 0b or 0-octal integer that fits 64 bits; underscores as YAML 1.1 allows. */
static bool parse_integer(const char *s, json_int_t *ret) {
    char digits[80];
    size_t n = 0;
    const char *p = s;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    int base = 10;
    if (p[0] == '0' && p[1] == 'x') {
        base = 16;
        p += 2;
    } else if (p[0] == '0' && p[1] == 'o') {
        base = 8;
        p += 2;
    } else if (p[0] == '0' && p[1] == 'b') {
        base = 2;
        p += 2;
    } else if (p[0] == '0' && p[1]) {
        base = 8;
    }
    if (!isxdigit((unsigned char)*p))
        return false;
    if (negative)
        digits[n++] = '-'; /* before strtoll: the least integer has no positive twin */
    for (; *p && n < sizeof(digits) - 1; p++) {
        if (*p != '_')
            digits[n++] = *p;
    }
    digits[n] = '\0';
    errno = 0;
    char *end;
    long long v = strtoll(digits, &end, base);
    if (*p || *end || errno || !n)
        return false;
    *ret = v;
    return true;
}

static bool parse_real(const char *s, double *ret) {
    const char *p = *s == '-' || *s == '+' ? s + 1 : s;
    if (!isdigit((unsigned char)*p) && !(p[0] == '.' && isdigit((unsigned char)p[1])))
        return false;
    for (const char *q = p; *q; q++) {
        if (!isdigit((unsigned char)*q) && !strchr(".eE+-", *q))
            return false;
    }
    char *end;
    errno = 0;
    double v = strtod(s, &end);
    if (*end || errno || !isfinite(v))
        return false;
    *ret = v;
    return true;
}

static json_t *scalar_value(const yaml_event_t *event) {
    const char *s = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    const char *tag = (const char *)event->data.scalar.tag;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                 (!tag || strcmp(tag, "tag:yaml.org,2002:str") != 0);
    if (plain && strlen(s) == len) {
        json_int_t i;
        double d;
        if (is_null(s))
            return json_null();
        if (is_true(s))
            return json_true();
        if (is_false(s))
            return json_false();
        if (parse_integer(s, &i))
            return json_integer(i);
        if (parse_real(s, &d))
            return json_real(d);
    }
    return strlen(s) == len ? json_string(s) : NULL; /* NULL, too, when it is not UTF-8 */
}

static enum errc count_nodes(struct reader *r, const yaml_mark_t *mark, uint32_t more) {
    r->num_nodes += more;
    if (r->num_nodes > YAML_NODES_MAX)
        return fail(r, mark, "more than 1000000 values once aliases are expanded");
    return OK;
}

static uint32_t tree_size(const json_t *v) {
    uint32_t n = 1;
    const char *key;
    json_t *child;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach ((json_t *)v, key, child)
            n += tree_size(child);
    } else if (json_is_array(v)) {
        json_array_foreach (v, i, child)
            n += tree_size(child);
    }
    return n;
}

static void remember(struct reader *r, const yaml_char_t *name, json_t *value) {
    if (!name)
        return;
    struct anchor *a = mem_alloc(sizeof(*a));
    a->name = mem_strdup((const char *)name);
    a->value = json_incref(value);
    a->next = r->anchors;
    r->anchors = a;
}

static enum errc resolve_alias(struct reader *r, const yaml_event_t *event, json_t **ret) {
    const char *name = (const char *)event->data.alias.anchor;
    for (struct anchor *a = r->anchors; a; a = a->next) {
        if (!strcmp(a->name, name)) {
            enum errc rc = count_nodes(r, &event->start_mark, tree_size(a->value));
            if (!rc)
                *ret = json_deep_copy(a->value);
            return rc;
        }
    }
    return fail(r, &event->start_mark, "alias of an anchor that is not defined");
}

static enum errc read_value(struct reader *r, yaml_event_t *event, int depth, json_t **ret);

static enum errc read_sequence(struct reader *r, yaml_event_t *start, int depth, json_t **ret) {
    json_t *array = json_array();
    for (;;) {
        yaml_event_t event;
        enum errc rc = next_event(r, &event);
        if (rc) {
            json_decref(array);
            return rc;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        json_t *item = NULL;
        rc = read_value(r, &event, depth + 1, &item);
        yaml_event_delete(&event);
        if (rc) {
            json_decref(array);
            return rc;
        }
        json_array_append_new(array, item);
    }
    remember(r, start->data.sequence_start.anchor, array);
    *ret = array;
    return OK;
}

/* `<<: *base` brings in what the mapping does not say itself. */
static enum errc merge_key(struct reader *r, const yaml_mark_t *mark, json_t *into, json_t *from) {
    if (json_is_object(from)) {
        json_object_update_missing(into, from);
        return OK;
    }
    size_t i;
    json_t *one;
    if (!json_is_array(from))
        return fail(r, mark, "value of << must be a mapping or a list of mappings");
    json_array_foreach (from, i, one) {
        if (!json_is_object(one))
            return fail(r, mark, "value of << must be a mapping or a list of mappings");
        json_object_update_missing(into, one);
    }
    return OK;
}

/* One key and its value into `object`; merged mappings wait in `merges` until all keys are known.
 */
static enum errc read_pair(struct reader *r, yaml_event_t *key, int depth, json_t *object,
                           json_t *merges) {
    if (key->type != YAML_SCALAR_EVENT)
        return fail(r, &key->start_mark, "a key must be a plain or quoted word");
    const char *name = (const char *)key->data.scalar.value;
    bool merge = !strcmp(name, "<<") && key->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (strlen(name) != key->data.scalar.length)
        return fail(r, &key->start_mark, "a key holds a NUL byte");
    if (!merge && json_object_get(object, name)) {
        char what[160];
        snprintf(what, sizeof(what), "key \"%.100s\" is given twice", name);
        return fail(r, &key->start_mark, what);
    }
    yaml_event_t event;
    enum errc rc = next_event(r, &event);
    if (rc)
        return rc;
    json_t *value = NULL;
    rc = read_value(r, &event, depth + 1, &value);
    yaml_event_delete(&event);
    if (rc)
        return rc;
    if (merge) {
        json_array_append_new(merges, value);
        return OK;
    }
    if (json_object_set_new(object, name, value))
        return fail(r, &key->start_mark, "a key is not valid UTF-8");
    return OK;
}

static enum errc read_mapping(struct reader *r, yaml_event_t *start, int depth, json_t **ret) {
    json_t *object = json_object();
    json_t *merges = json_array();
    enum errc rc = OK;
    for (;;) {
        yaml_event_t key;
        rc = next_event(r, &key);
        if (rc)
            break;
        bool end = key.type == YAML_MAPPING_END_EVENT;
        if (!end)
            rc = read_pair(r, &key, depth, object, merges);
        yaml_event_delete(&key);
        if (end || rc)
            break;
    }
    size_t i;
    json_t *from;
    json_array_foreach (merges, i, from) {
        if (!rc)
            rc = merge_key(r, &start->start_mark, object, from);
    }
    json_decref(merges);
    if (rc) {
        json_decref(object);
        return rc;
    }
    remember(r, start->data.mapping_start.anchor, object);
    *ret = object;
    return OK;
}

static enum errc read_value(struct reader *r, yaml_event_t *event, int depth, json_t **ret) {
    if (depth > YAML_DEPTH_MAX)
        return fail(r, &event->start_mark, "nested deeper than 200 levels");
    enum errc rc = count_nodes(r, &event->start_mark, 1);
    if (rc)
        return rc;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        *ret = scalar_value(event);
        if (!*ret)
            return fail(r, &event->start_mark, "a string is not valid UTF-8, or holds a NUL byte");
        remember(r, event->data.scalar.anchor, *ret);
        return OK;
    case YAML_SEQUENCE_START_EVENT:
        return read_sequence(r, event, depth, ret);
    case YAML_MAPPING_START_EVENT:
        return read_mapping(r, event, depth, ret);
    case YAML_ALIAS_EVENT:
        return resolve_alias(r, event, ret);
    default:
        return fail(r, &event->start_mark, "a value is missing");
    }
}

static void forget_anchors(struct reader *r) {
    while (r->anchors) {
        struct anchor *a = r->anchors;
        r->anchors = a->next;
        json_decref(a->value);
        free(a->name);
        free(a);
    }
}

enum errc yaml_parse_all(const char *text, size_t len, json_t **ret_docs, struct error *err) {
    struct reader r = {.err = err};
    if (!yaml_parser_initialize(&r.parser))
        return err_set(err, ERR_INTERNAL, "yaml: no memory for a parser");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    json_t *docs = json_array();
    enum errc rc = OK;
    for (bool done = false; !rc && !done;) {
        yaml_event_t event;
        rc = next_event(&r, &event);
        if (rc)
            break;
        if (event.type == YAML_STREAM_END_EVENT) {
            done = true;
        } else if (event.type == YAML_DOCUMENT_END_EVENT) {
            forget_anchors(&r); /* anchors live in one document */
        } else if (event.type != YAML_STREAM_START_EVENT &&
                   event.type != YAML_DOCUMENT_START_EVENT) {
            json_t *doc = NULL;
            rc = read_value(&r, &event, 0, &doc);
            if (!rc)
                json_array_append_new(docs, doc);
        }
        yaml_event_delete(&event);
    }
    forget_anchors(&r);
    yaml_parser_delete(&r.parser);
    if (rc)
        json_decref(docs);
    else
        *ret_docs = docs;
    return rc;
}

enum errc yaml_parse(const char *text, size_t len, json_t **ret_doc, struct error *err) {
    json_t *docs = NULL;
    enum errc rc = yaml_parse_all(text, len, &docs, err);
    if (rc)
        return rc;
    size_t n = json_array_size(docs);
    if (n > 1)
        rc = err_set(err, ERR_MALFORMED, "yaml: %zu documents where one is expected", n);
    else
        *ret_doc = n ? json_incref(json_array_get(docs, 0)) : json_null();
    json_decref(docs);
    return rc;
}

int yaml_key_line(const char *text, size_t len, const char *key) {
    size_t key_len = strlen(key);
    int line = 1;
    for (size_t i = 0; i < len; line++) {
        const char *end = memchr(text + i, '\n', len - i);
        size_t line_len = end ? (size_t)(end - (text + i)) : len - i;
        const char *p = text + i;
        size_t quote = line_len && (*p == '"' || *p == '\'') ? 1 : 0;
        if (line_len > key_len + quote && !memcmp(p + quote, key, key_len)) {
            const char *after = p + quote * 2 + key_len;
            if (after < p + line_len && (*after == ':' || *after == ' '))
                return line;
        }
        i += line_len + 1;
    }
    return 0;
}

/* The character at s when it cannot stand in a scalar as it is: a control character, a line break
 * of YAML's (NEL, LS, PS), a byte order mark, a noncharacter. 0: it can. s is UTF-8. */
static unsigned unprintable(const char *s) {
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x20 || u[0] == 0x7f)
        return u[0];
    if (u[0] == 0xc2 && u[1] < 0xa0)
        return u[1];
    unsigned code = u[0] >> 4 == 0xe ? (unsigned)(u[0] & 0xf) << 12 | (u[1] & 0x3fU) << 6 : 0;
    code |= code ? u[2] & 0x3fU : 0;
    bool strange = code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe;
    return strange ? code : 0;
}

static bool needs_quotes(const char *s) {
    json_int_t i;
    double d;
    if (is_null(s) || is_true(s) || is_false(s) || parse_integer(s, &i) || parse_real(s, &d))
        return true;
    if (strchr("-?:,[]{}#&*!|>'\"%@`= \t.", s[0]) || isdigit((unsigned char)s[0]) || s[0] == '+')
        return true;
    size_t len = strlen(s);
    if (s[len - 1] == ' ' || s[len - 1] == ':' || !strcmp(s, "<<")) /* bare, it merges a mapping */
        return true;
    for (const char *p = s; *p; p++) {
        if ((*p == '#' && p[-1] == ' ') || (*p == ':' && p[1] == ' ') || unprintable(p))
            return true;
    }
    return false;
}

/* YAML's double quotes: JSON's, and escapes for what YAML counts as a line break or refuses. */
static void emit_quoted(const char *s, struct buf *out) {
    buf_putc(out, '"');
    while (*s) {
        size_t len = 1;
        unsigned code = unprintable(s);
        if (code >= 0x80)
            len = code < 0x800 ? 2 : 3;
        if (code)
            buf_printf(out, "\\u%04x", code);
        else if (*s == '"' || *s == '\\')
            buf_printf(out, "\\%c", *s);
        else
            buf_putc(out, *s);
        s += len;
    }
    buf_putc(out, '"');
}

static void emit_string(const char *s, struct buf *out) {
    if (needs_quotes(s))
        emit_quoted(s, out);
    else
        buf_puts(out, s);
}

static void emit_value(const json_t *v, int indent, bool in_sequence, struct buf *out);

static void emit_indent(int indent, struct buf *out) {
    buf_printf(out, "%*s", indent, "");
}

static bool is_block(const json_t *v) {
    return (json_is_object(v) && json_object_size(v)) || (json_is_array(v) && json_array_size(v));
}

/* "key:". YAML looks back no further than 1024 characters for the start of a key that has a colon
 * behind it: a longer one needs a mark before it, and its colon in the next line. */
static void emit_key(const char *key, int indent, struct buf *out) {
    AUTO_BUF text = BUF_INIT;
    emit_string(key, &text);
    if (text.len <= SIMPLE_KEY_BYTES_MAX) {
        buf_printf(out, "%s:", text.data);
        return;
    }
    buf_printf(out, "? %s\n", text.data);
    emit_indent(indent, out);
    buf_putc(out, ':');
}

static void emit_mapping(const json_t *v, int indent, bool in_sequence, struct buf *out) {
    const char *key;
    json_t *child;
    bool first = true;
    json_object_foreach ((json_t *)v, key, child) {
        if (!first || !in_sequence)
            emit_indent(indent, out);
        first = false;
        emit_key(key, indent, out);
        if (is_block(child)) {
            buf_putc(out, '\n');
            emit_value(child, json_is_array(child) ? indent : indent + 2, false, out);
        } else {
            buf_putc(out, ' ');
            emit_value(child, indent, false, out);
        }
    }
}

static void emit_value(const json_t *v, int indent, bool in_sequence, struct buf *out) {
    if (json_is_object(v) && json_object_size(v)) {
        emit_mapping(v, indent, in_sequence, out);
    } else if (json_is_array(v) && json_array_size(v)) {
        size_t i;
        json_t *child;
        json_array_foreach (v, i, child) {
            if (i || !in_sequence)
                emit_indent(indent, out);
            buf_puts(out, "- ");
            emit_value(child, indent + 2, true, out);
        }
    } else if (json_is_string(v)) {
        emit_string(json_string_value(v), out);
        buf_putc(out, '\n');
    } else {
        char *text = json_dumps(v, JSON_ENCODE_ANY);
        buf_printf(out, "%s\n", text);
        free(text);
    }
}

void yaml_emit(const json_t *doc, struct buf *out) {
    emit_value(doc, 0, false, out);
}
