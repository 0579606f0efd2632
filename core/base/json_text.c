/* jansson's printer, for long strings.
 *
 * jansson decodes every character of a string to see whether it needs an escape, and passes what
 * lies between two of them to a callback: 10 ns a byte. Objects of Kubernetes are mostly strings
 * (a ConfigMap's data, annotations, managedFields), which are printed for the disk, for the answer
 * and for watches. Here one table tells which bytes are escaped, and what lies between is one copy.
 *
 * Strings hold UTF-8: jansson checks that when it makes them, so it is not checked again. */
#include "core/base/json_text.h"

#include <stdio.h>

/* The character behind the backslash; 'u': by number; 0: as it is. */
static const char escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
    ['\t'] = 't', [0x00] = 'u',  [0x01] = 'u', [0x02] = 'u', [0x03] = 'u', [0x04] = 'u',
    [0x05] = 'u', [0x06] = 'u',  [0x07] = 'u', [0x0b] = 'u', [0x0e] = 'u', [0x0f] = 'u',
    [0x10] = 'u', [0x11] = 'u',  [0x12] = 'u', [0x13] = 'u', [0x14] = 'u', [0x15] = 'u',
    [0x16] = 'u', [0x17] = 'u',  [0x18] = 'u', [0x19] = 'u', [0x1a] = 'u', [0x1b] = 'u',
    [0x1c] = 'u', [0x1d] = 'u',  [0x1e] = 'u', [0x1f] = 'u',
};

void json_text_string(struct buf *b, const char *text, size_t len) {
    const char *end = text + len;
    buf_reserve(b, len + 2);
    buf_putc(b, '"');
    while (text < end) {
        const char *run = text;
        while (text < end && !escapes[(unsigned char)*text])
            text++;
        buf_append(b, run, (size_t)(text - run));
        if (text == end)
            break;
        char escape = escapes[(unsigned char)*text];
        if (escape == 'u')
            buf_printf(b, "\\u%04X", (unsigned char)*text);
        else
            buf_append(b, (char[]){'\\', escape}, 2);
        text++;
    }
    buf_putc(b, '"');
}

static void put_object(struct buf *b, const json_t *value) {
    const char *key;
    json_t *child;
    bool first = true;
    buf_putc(b, '{');
    json_object_foreach ((json_t *)(uintptr_t)value, key, child) {
        if (!first)
            buf_putc(b, ',');
        first = false;
        json_text_string(b, key, strlen(key));
        buf_putc(b, ':');
        json_text(b, child);
    }
    buf_putc(b, '}');
}

static void put_array(struct buf *b, const json_t *value) {
    size_t index;
    json_t *child;
    buf_putc(b, '[');
    json_array_foreach (value, index, child) {
        if (index)
            buf_putc(b, ',');
        json_text(b, child);
    }
    buf_putc(b, ']');
}

static int append(const char *data, size_t len, void *user) {
    buf_append(user, data, len);
    return 0;
}

void json_text(struct buf *b, const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        put_object(b, value);
        break;
    case JSON_ARRAY:
        put_array(b, value);
        break;
    case JSON_STRING:
        json_text_string(b, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL: /* the shortest way is jansson's affair */
        ASSERT(!json_dump_callback(value, append, b, JSON_ENCODE_ANY));
        break;
    case JSON_TRUE:
        buf_puts(b, "true");
        break;
    case JSON_FALSE:
        buf_puts(b, "false");
        break;
    case JSON_NULL:
        buf_puts(b, "null");
        break;
    }
}
