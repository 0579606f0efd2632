/* JSONPath by recursion: each step hands every value it finds to the rest of the path. */
#include "kube-compat/json_path.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES_MAX = 256 };

/* Reads a key up to one of the stop characters; a backslash takes the next character as it is. */
static const char *read_key(const char *p, const char *stop, char key[KEY_BYTES_MAX]) {
    size_t len = 0;
    for (; *p && !strchr(stop, *p); p++) {
        if (*p == '\\' && p[1])
            p++;
        if (len + 1 == KEY_BYTES_MAX)
            return NULL;
        key[len++] = *p;
    }
    key[len] = '\0';
    return p;
}

/* "@.type=='Ready'" against one element. */
static bool filter_holds(const json_t *element, const char *key_path, const char *literal) {
    json_t *found = json_array();
    json_path_find(element, key_path, found);
    const json_t *v = json_array_get(found, 0);
    size_t len = strlen(literal);
    bool quoted = len >= 2 && (literal[0] == '\'' || literal[0] == '"');
    bool holds = false;
    if (quoted)
        holds = json_is_string(v) && json_string_length(v) == len - 2 &&
                !memcmp(json_string_value(v), literal + 1, len - 2);
    else if (json_is_boolean(v))
        holds = !strcmp(literal, json_is_true(v) ? "true" : "false");
    else if (json_is_integer(v))
        holds = json_integer_value(v) == strtoll(literal, NULL, 10);
    json_decref(found);
    return holds;
}

static bool each(const json_t *o, const char *rest, json_t *results) {
    bool parses = true;
    if (json_is_array(o)) {
        for (size_t i = 0; i < json_array_size(o) && parses; i++)
            parses = json_path_find(json_array_get(o, i), rest, results);
    } else if (json_is_object(o)) {
        const char *key;
        json_t *member;
        json_object_foreach ((json_t *)(uintptr_t)o, key, member) {
            if (parses)
                parses = json_path_find(member, rest, results);
        }
    }
    return parses;
}

/* "?(@.KEY==LITERAL)]", p behind the question mark. */
static bool filtered(const json_t *o, const char *p, json_t *results) {
    char key[KEY_BYTES_MAX], literal[KEY_BYTES_MAX];
    if (strncmp(p, "(@", 2) != 0)
        return false;
    const char *end = strstr(p, ")]");
    const char *equals = strstr(p, "==");
    if (!end || !equals || equals > end || equals - (p + 2) >= KEY_BYTES_MAX ||
        end - (equals + 2) >= KEY_BYTES_MAX)
        return false;
    size_t key_len = (size_t)(equals - (p + 2)), literal_len = (size_t)(end - (equals + 2));
    memcpy(key, p + 2, key_len);
    key[key_len] = '\0';
    memcpy(literal, equals + 2, literal_len);
    literal[literal_len] = '\0';
    bool parses = true;
    for (size_t i = 0; i < json_array_size(o) && parses; i++) {
        const json_t *element = json_array_get(o, i);
        if (filter_holds(element, key, literal))
            parses = json_path_find(element, end + 2, results);
    }
    return parses;
}

static bool bracket(const json_t *o, const char *p, json_t *results) {
    if (*p == '?')
        return filtered(o, p + 1, results);
    if (!strncmp(p, "*]", 2))
        return each(o, p + 2, results);
    if (*p == '\'' || *p == '"') {
        char key[KEY_BYTES_MAX], quote[2] = {*p, '\0'};
        p = read_key(p + 1, quote, key);
        if (!p || p[0] != quote[0] || p[1] != ']')
            return false;
        const json_t *member = json_object_get(o, key);
        return !member || json_path_find(member, p + 2, results);
    }
    char *end;
    long index = strtol(p, &end, 10);
    if (end == p || *end != ']')
        return false;
    if (index < 0)
        index += (long)json_array_size(o);
    const json_t *member = index < 0 ? NULL : json_array_get(o, (size_t)index);
    return !member || json_path_find(member, end + 1, results);
}

bool json_path_find(const json_t *o, const char *path, json_t *results) {
    if (!*path) {
        if (json_array_size(results) < JSON_PATH_RESULTS_MAX)
            json_array_append(results, (json_t *)(uintptr_t)o);
        return true;
    }
    if (*path == '[')
        return bracket(o, path + 1, results);
    if (*path != '.')
        return false;
    if (path[1] == '*')
        return each(o, path + 2, results);
    if (path[1] == '[')
        return json_path_find(o, path + 1, results);
    char key[KEY_BYTES_MAX];
    const char *rest = read_key(path + 1, ".[", key);
    if (!rest)
        return false;
    const json_t *member = json_object_get(o, key);
    return !member || json_path_find(member, rest, results);
}
