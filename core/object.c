/* Kubernetes objects. Small readers and writers over json_t that never trust the shape: a path that
 * leads through something of the wrong type is absent. */
#include "core/object.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/random.h>

#include "core/base/clock.h"
#include "core/base/utf8.h"
#include "core/quantity.h"

/* Kubernetes' alphabet for generated names: no vowels, no 0, 1 or 3, so no words by accident. */
static const char name_letters[] = "bcdfghjklmnpqrstvwxz2456789";

enum { NUM_NAME_LETTERS = sizeof(name_letters) - 1 };

const char *object_key(struct object_key *out, const char *group, const char *resource,
                       const char *ns, const char *name) {
    if (!group || !*group)
        group = "core";
    if (!ns && !name)
        snprintf(out->text, sizeof(out->text), "%s/%s/", group, resource);
    else
        snprintf(out->text, sizeof(out->text), "%s/%s/%s/%s", group, resource, ns ? ns : "-",
                 name ? name : "");
    return out->text;
}

/* Copies the segment of path up to the next dot; gives where the rest begins, NULL at the end. */
static const char *segment(const char *path, char out[OBJECT_PATH_BYTES_MAX]) {
    const char *dot = strchr(path, '.');
    size_t len = dot ? (size_t)(dot - path) : strlen(path);
    ASSERT(len < OBJECT_PATH_BYTES_MAX);
    memcpy(out, path, len);
    out[len] = '\0';
    return dot ? dot + 1 : NULL;
}

static json_t *child(const json_t *o, const char *name) {
    if (json_is_array(o) && isdigit((unsigned char)*name))
        return json_array_get(o, strtoul(name, NULL, 10));
    return json_object_get(o, name);
}

json_t *object_at(const json_t *o, const char *path) {
    char name[OBJECT_PATH_BYTES_MAX];
    while (o && path) {
        path = segment(path, name);
        o = child(o, name);
    }
    return (json_t *)o;
}

const char *object_str(const json_t *o, const char *path) {
    return json_string_value(object_at(o, path));
}

int64_t object_int(const json_t *o, const char *path, int64_t otherwise) {
    const json_t *v = object_at(o, path);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

bool object_bool(const json_t *o, const char *path, bool otherwise) {
    const json_t *v = object_at(o, path);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

void object_set(json_t *o, const char *path, json_t *value) {
    char name[OBJECT_PATH_BYTES_MAX];
    while ((path = segment(path, name))) {
        json_t *next = child(o, name);
        if (!json_is_object(next) && !json_is_array(next)) {
            next = json_object();
            json_object_set_new(o, name, next);
        }
        o = next;
    }
    if (json_is_array(o))
        json_array_set_new(o, strtoul(name, NULL, 10), value);
    else
        json_object_set_new(o, name, value);
}

void object_delete(json_t *o, const char *path) {
    char name[OBJECT_PATH_BYTES_MAX];
    while (o && (path = segment(path, name)))
        o = child(o, name);
    if (json_is_object(o))
        json_object_del(o, name);
}

const char *object_name(const json_t *o) {
    return object_str(o, "metadata.name");
}

const char *object_namespace(const json_t *o) {
    return object_str(o, "metadata.namespace");
}

const char *object_uid(const json_t *o) {
    return object_str(o, "metadata.uid");
}

const char *object_label(const json_t *o, const char *key) {
    return json_string_value(json_object_get(object_at(o, "metadata.labels"), key));
}

const char *object_annotation(const json_t *o, const char *key) {
    return json_string_value(json_object_get(object_at(o, "metadata.annotations"), key));
}

bool object_deleting(const json_t *o) {
    return object_str(o, "metadata.deletionTimestamp") != NULL;
}

static void random_bytes(void *out, size_t len) {
    ssize_t n = getrandom(out, len, 0); /* at most 256 bytes: never short, never interrupted */
    ASSERT(n == (ssize_t)len);
}

void object_uid_make(char out[37]) {
    unsigned char b[16];
    random_bytes(b, sizeof(b));
    b[6] = (b[6] & 0x0F) | 0x40; /* version 4 */
    b[8] = (b[8] & 0x3F) | 0x80; /* variant 1 */
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

void object_name_suffix(char out[6]) {
    for (int i = 0; i < 5;) {
        unsigned char b;
        random_bytes(&b, 1);
        if (b < 256 / NUM_NAME_LETTERS * NUM_NAME_LETTERS) /* no letter more likely than another */
            out[i++] = name_letters[b % NUM_NAME_LETTERS];
    }
    out[5] = '\0';
}

void object_stamp_new(json_t *o, bool with_generation, int64_t wall_ms) {
    char uid[37], now[CLOCK_RFC3339_BYTES];
    object_uid_make(uid);
    object_set(o, "metadata.uid", json_string(uid));
    object_set(o, "metadata.creationTimestamp", json_string(clock_rfc3339(wall_ms, now)));
    if (with_generation)
        object_set(o, "metadata.generation", json_integer(1));
}

void object_hash_name(const json_t *value, char out[11]) {
    char *text = json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
    ASSERT(text);
    uint32_t hash = 2166136261u; /* FNV-1a, 32 bits */
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        hash = (hash ^ *p) * 16777619u;
    free(text);
    char digits[11];
    snprintf(digits, sizeof(digits), "%u", hash);
    size_t len = strlen(digits);
    for (size_t i = 0; i <= len; i++) /* the way of Kubernetes' SafeEncodeString */
        out[i] = i == len ? '\0' : name_letters[(unsigned char)digits[i] % NUM_NAME_LETTERS];
}

json_t *object_owner_ref(const json_t *owner) {
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "apiVersion",
                     object_str(owner, "apiVersion"), "kind", object_str(owner, "kind"), "name",
                     object_name(owner), "uid", object_uid(owner), "controller", 1,
                     "blockOwnerDeletion", 1);
}

const json_t *object_controller_of(const json_t *o) {
    size_t i;
    json_t *ref;
    json_array_foreach (object_at(o, "metadata.ownerReferences"), i, ref) {
        if (object_bool(ref, "controller", false))
            return ref;
    }
    return NULL;
}

bool object_controlled_by(const json_t *o, const json_t *owner) {
    const char *uid = object_str(object_controller_of(o), "uid"), *owner_uid = object_uid(owner);
    return uid && owner_uid && !strcmp(uid, owner_uid);
}

void object_remove_condition(json_t *o, const char *type) {
    json_t *list = object_at(o, "status.conditions"), *c;
    size_t i;
    json_array_foreach (list, i, c) {
        const char *has = object_str(c, "type");
        if (has && !strcmp(has, type)) {
            json_array_remove(list, i);
            return;
        }
    }
}

json_t *object_find_condition(const json_t *o, const char *type) {
    size_t i;
    json_t *c;
    json_array_foreach (object_at(o, "status.conditions"), i, c) {
        const char *has = object_str(c, "type");
        if (has && !strcmp(has, type))
            return c;
    }
    return NULL;
}

json_t *object_find_named(const json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach (list, i, item) {
        const char *has = object_str(item, "name");
        if (has && !strcmp(has, name))
            return item;
    }
    return NULL;
}

json_t *object_text(const char *text) {
    json_t *s = json_string(text);
    if (s)
        return s;
    AUTO_BUF clean = BUF_INIT;
    for (const char *p = text; *p;) {
        size_t len = utf8_character(p, SIZE_MAX);
        if (len)
            buf_append(&clean, p, len);
        else
            buf_puts(&clean, "\xEF\xBF\xBD");
        p += len ? len : 1;
    }
    s = json_string(clean.data);
    ASSERT(s);
    return s;
}

/* Sets or (NULL) removes a string; true when that changed something. */
static bool set_string(json_t *o, const char *name, const char *value) {
    json_t *was = json_object_get(o, name);
    if (!value)
        return json_object_del(o, name) == 0;
    json_t *text = object_text(value);
    bool changed = !was || !json_equal(was, text);
    json_object_set_new(o, name, text);
    return changed;
}

bool object_set_condition(json_t *o, const char *type, const char *status, const char *reason,
                          const char *message, int64_t wall_ms) {
    json_t *conditions = object_at(o, "status.conditions");
    if (!json_is_array(conditions)) {
        conditions = json_array();
        object_set(o, "status.conditions", conditions);
    }
    json_t *c = object_find_condition(o, type);
    if (!c) {
        c = json_pack("{s:s}", "type", type);
        json_array_append_new(conditions, c);
    }
    bool changed = set_string(c, "status", status);
    if (changed) {
        char now[CLOCK_RFC3339_BYTES];
        json_object_set_new(c, "lastTransitionTime", json_string(clock_rfc3339(wall_ms, now)));
    }
    changed |= set_string(c, "reason", reason);
    changed |= set_string(c, "message", message);
    return changed;
}

const char *object_condition(const json_t *o, const char *type) {
    return object_str(object_find_condition(o, type), "status");
}

bool object_labels_match(const json_t *match_labels, const json_t *labels) {
    const char *key;
    json_t *want;
    if (!json_is_object(match_labels))
        return false;
    json_object_foreach ((json_t *)match_labels, key, want) {
        const json_t *has = json_object_get(labels, key);
        if (!has || !json_equal(want, has))
            return false;
    }
    return true;
}

void object_add_missing(json_t *list, const json_t *more) {
    size_t i, j;
    json_t *item, *have;
    json_array_foreach (more, i, item) {
        bool there = false;
        json_array_foreach (list, j, have) {
            there = there || json_equal(have, item);
        }
        if (!there)
            json_array_append(list, item);
    }
}

void object_canonical_quantities(json_t *map) {
    const char *key;
    json_t *value;
    json_object_foreach (map, key, value) {
        char text[QUANTITY_BYTES_MAX], out[QUANTITY_BYTES_MAX];
        if (json_is_integer(value))
            snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
        else
            snprintf(text, sizeof(text), "%s",
                     json_string_value(value) ? json_string_value(value) : "");
        if (!quantity_canonical(text, out))
            json_object_set_new(map, key, json_string(out));
    }
}
