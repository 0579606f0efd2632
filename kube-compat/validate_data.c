/* ConfigMaps and Secrets: their keys are file names, their size has a bound, and what is immutable
 * stays. The types of Secrets that programs rely on must have what those programs read. */
#include "kube-compat/validate_parts.h"

#include <stdio.h>

#include "core/base/base64.h"
#include "core/object.h"
#include "kube-compat/names.h"

enum { DATA_BYTES_MAX = 1 << 20 };

static const char key_rule[] =
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

static bool is_key(const char *key) {
    return *key && strlen(key) <= NAME_SUBDOMAIN_BYTES_MAX && strcmp(key, ".") != 0 &&
           strncmp(key, "..", 2) != 0 &&
           !key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")];
}

/* What base64 text decodes to, in bytes. */
static size_t decoded_bytes(const char *text, size_t len) {
    while (len && text[len - 1] == '=')
        len--;
    return len * 3 / 4;
}

/* Checks keys and, where the values are base64, those; gives the size of the values. */
static size_t check_data(const json_t *object, const char *member, bool is_base64, json_t *causes) {
    const char *key;
    json_t *value;
    size_t bytes = 0;
    json_object_foreach (json_object_get(object, member), key, value) {
        const char *text = json_string_value(value);
        size_t len = json_string_length(value);
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "%s[%.253s]", member, key);
        if (!is_key(key))
            validate_invalid(causes, field, key, key_rule);
        if (is_base64 && text && !base64_check(text, len))
            cause_add(causes, CAUSE_INVALID, field, "Invalid value: illegal base64 data");
        bytes += is_base64 && text ? decoded_bytes(text, len) : len;
    }
    return bytes;
}

static void check_size(size_t bytes, const char *field, json_t *causes) {
    if (bytes > DATA_BYTES_MAX)
        cause_add(causes, "FieldValueTooLong", field, "Too long: may not be more than %d bytes",
                  DATA_BYTES_MAX);
}

void validate_config_map(const json_t *config_map, json_t *causes) {
    const json_t *data = json_object_get(config_map, "data");
    const char *key;
    json_t *value;
    size_t bytes = check_data(config_map, "data", false, causes) +
                   check_data(config_map, "binaryData", true, causes);
    json_object_foreach (json_object_get(config_map, "binaryData"), key, value) {
        char field[VALIDATE_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "data[%.253s]", key);
        if (json_object_get(data, key))
            validate_invalid(causes, field, key, "duplicate of key present in binaryData");
    }
    check_size(bytes, "[]", causes); /* the object as a whole */
}

static void want_key(const json_t *secret, const char *key, json_t *causes) {
    char field[VALIDATE_FIELD_BYTES_MAX];
    snprintf(field, sizeof(field), "data[%s]", key);
    if (!json_object_get(json_object_get(secret, "data"), key))
        validate_required(causes, field, NULL);
}

/* Text that was checked, from the standard alphabet through the other one. */
static bool decode(struct buf *out, const char *text) {
    AUTO_FREE char *url = mem_strdup(text);
    for (char *p = url; *p; p++)
        *p = (char)(*p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? '\0' : *p);
    return base64url_decode(out, url);
}

/* The credentials of a registry are JSON. */
static void check_docker(const json_t *secret, const char *key, json_t *causes) {
    const json_t *value = json_object_get(json_object_get(secret, "data"), key);
    AUTO_BUF text = BUF_INIT;
    char field[VALIDATE_FIELD_BYTES_MAX];
    snprintf(field, sizeof(field), "data[%s]", key);
    if (!json_is_string(value) ||
        !base64_check(json_string_value(value), json_string_length(value)) ||
        !decode(&text, json_string_value(value)))
        return;
    json_t *doc = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    if (!doc)
        validate_invalid(causes, field, "<secret contents redacted>", "is not a JSON document");
    json_decref(doc);
}

void validate_secret(const json_t *secret, json_t *causes) {
    static const struct {
        const char *type, *keys[2];
    } wanted[] = {
        {"kubernetes.io/tls", {"tls.crt", "tls.key"}},
        {"kubernetes.io/ssh-auth", {"ssh-privatekey", NULL}},
        {"kubernetes.io/dockercfg", {".dockercfg", NULL}},
        {"kubernetes.io/dockerconfigjson", {".dockerconfigjson", NULL}},
    };
    const char *type = object_str(secret, "type");
    const json_t *data = json_object_get(secret, "data");
    check_size(check_data(secret, "data", true, causes), "data", causes);
    for (size_t i = 0; type && i < ARRAY_LEN(wanted); i++) {
        if (strcmp(type, wanted[i].type) != 0)
            continue;
        for (size_t k = 0; k < ARRAY_LEN(wanted[i].keys) && wanted[i].keys[k]; k++)
            want_key(secret, wanted[i].keys[k], causes);
        if (strstr(type, "docker"))
            check_docker(secret, wanted[i].keys[0], causes);
    }
    if (type && !strcmp(type, "kubernetes.io/basic-auth") && !json_object_get(data, "username") &&
        !json_object_get(data, "password")) {
        validate_required(causes, "data[username]", NULL);
        validate_required(causes, "data[password]", NULL);
    }
}

void validate_frozen(const json_t *object, const json_t *old, json_t *causes) {
    static const char *const fields[] = {"data", "binaryData", "immutable"};
    if (!object_bool(old, "immutable", false))
        return;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const json_t *now = json_object_get(object, fields[i]);
        const json_t *was = json_object_get(old, fields[i]);
        if (now != was && !(now && was && json_equal(now, was)))
            cause_add(causes, CAUSE_FORBIDDEN, fields[i],
                      "Forbidden: field is immutable when `immutable` is set");
    }
}
