/* JSON patch. Each operation walks its pointer to the parent of the place it names and changes it
 * there; the document is a private copy, so a failing operation needs no undo: the copy is dropped.
 *
 * `copy` can double a document with every operation, so the values copied are counted and bounded.
 */
#include "kube-compat/patch.h"

#include <ctype.h>
#include <stdio.h>

struct patcher {
    json_t *doc;
    size_t num_copied;
    size_t index; /* of the operation, for messages */
    struct error *err;
};

/* Where a pointer leads: a member or element of parent; the whole document has no parent. */
struct place {
    json_t *parent;
    char key[PATCH_POINTER_BYTES_MAX]; /* of an object */
    size_t index;                      /* of an array; its size stands for "-" */
    json_t *value;                     /* NULL: nothing is there yet */
};

static enum errc fail(struct patcher *p, const char *what, const char *pointer) {
    return err_set(p->err, ERR_INVALID, "patch operation %zu: %s: %.200s", p->index, what, pointer);
}

/* Copies one reference token, decoding ~0 and ~1; gives the rest or NULL. */
static const char *next_token(const char *pointer, char token[PATCH_POINTER_BYTES_MAX]) {
    if (*pointer++ != '/')
        return NULL;
    size_t len = 0;
    for (; *pointer && *pointer != '/'; pointer++) {
        char c = *pointer;
        if (c == '~') {
            c = *++pointer;
            if (c != '0' && c != '1')
                return NULL;
            c = c == '0' ? '~' : '/';
        }
        token[len++] = c;
    }
    token[len] = '\0';
    return pointer;
}

static bool array_index(const char *token, size_t size, size_t *ret_index) {
    if (!strcmp(token, "-")) {
        *ret_index = size;
        return true;
    }
    if (!isdigit((unsigned char)token[0]) || (token[0] == '0' && token[1]) || strlen(token) > 9)
        return false;
    for (const char *c = token; *c; c++) {
        if (!isdigit((unsigned char)*c))
            return false;
    }
    *ret_index = strtoul(token, NULL, 10);
    return *ret_index <= size;
}

static enum errc find(struct patcher *p, const char *pointer, struct place *at) {
    at->parent = NULL;
    at->value = p->doc;
    if (strlen(pointer) >= PATCH_POINTER_BYTES_MAX)
        return fail(p, "path is too long", "");
    for (const char *rest = pointer; *rest;) {
        at->parent = at->value;
        rest = next_token(rest, at->key);
        if (!rest)
            return fail(p, "not a JSON pointer", pointer);
        if (json_is_array(at->parent)) {
            if (!array_index(at->key, json_array_size(at->parent), &at->index))
                return fail(p, "no such array index", pointer);
            at->value = json_array_get(at->parent, at->index);
        } else if (json_is_object(at->parent)) {
            at->value = json_object_get(at->parent, at->key);
        } else {
            return fail(p, "path does not exist", pointer);
        }
        if (*rest && !at->value)
            return fail(p, "path does not exist", pointer);
    }
    return OK;
}

/* Takes value. */
static void put(struct patcher *p, struct place *at, json_t *value) {
    if (!at->parent) {
        json_decref(p->doc);
        p->doc = value;
    } else if (json_is_array(at->parent)) {
        json_array_insert_new(at->parent, at->index, value);
    } else {
        json_object_set_new(at->parent, at->key, value);
    }
}

static enum errc take_out(struct patcher *p, struct place *at, const char *pointer,
                          json_t **ret_value) {
    if (!at->value)
        return fail(p, "path does not exist", pointer);
    if (!at->parent)
        return fail(p, "the whole document cannot be removed", pointer);
    *ret_value = json_incref(at->value);
    if (json_is_array(at->parent))
        json_array_remove(at->parent, at->index);
    else
        json_object_del(at->parent, at->key);
    return OK;
}

static size_t count_values(const json_t *v) {
    size_t num = 1;
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++)
            num += count_values(json_array_get(v, i));
    } else if (json_is_object(v)) {
        const char *key;
        json_t *member;
        json_object_foreach ((json_t *)(uintptr_t)v, key, member) {
            num += count_values(member);
        }
    }
    return num;
}

/* json_equal() tells 1 from 1.0; a patch's `test` must not (RFC 6902 section 4.6). */
static bool equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static enum errc move_or_copy(struct patcher *p, struct place *at, const char *from,
                              const char *path, bool move) {
    enum errc code = find(p, from, at);
    if (code)
        return code;
    json_t *value = NULL;
    if (move) {
        size_t len = strlen(from);
        if (!strcmp(from, path))
            return at->value ? OK : fail(p, "path does not exist", from);
        if (!strncmp(path, from, len) && path[len] == '/')
            return fail(p, "a value cannot be moved into itself", path);
        code = take_out(p, at, from, &value);
        if (code)
            return code;
    } else {
        if (!at->value)
            return fail(p, "path does not exist", from);
        p->num_copied += count_values(at->value);
        if (p->num_copied > PATCH_COPIED_VALUES_MAX)
            return fail(p, "copies make the document too large", from);
        value = json_deep_copy(at->value);
    }
    code = find(p, path, at);
    if (code)
        json_decref(value);
    else
        put(p, at, value);
    return code;
}

static enum errc apply(struct patcher *p, struct place *at, const json_t *operation) {
    const char *op = json_string_value(json_object_get(operation, "op"));
    const char *path = json_string_value(json_object_get(operation, "path"));
    const char *from = json_string_value(json_object_get(operation, "from"));
    const json_t *value = json_object_get(operation, "value");
    if (!op || !path)
        return err_set(p->err, ERR_MALFORMED, "patch operation %zu: op and path are required",
                       p->index);
    if (!strcmp(op, "move") || !strcmp(op, "copy")) {
        if (!from)
            return err_set(p->err, ERR_MALFORMED, "patch operation %zu: %s: from is required",
                           p->index, op);
        return move_or_copy(p, at, from, path, *op == 'm');
    }
    bool removes = !strcmp(op, "remove");
    if (!removes && strcmp(op, "add") != 0 && strcmp(op, "replace") != 0 && strcmp(op, "test") != 0)
        return err_set(p->err, ERR_MALFORMED, "patch operation %zu: unknown op %.32s", p->index,
                       op);
    if (!removes && !value)
        return err_set(p->err, ERR_MALFORMED, "patch operation %zu: %s: value is required",
                       p->index, op);
    enum errc code = find(p, path, at);
    if (code)
        return code;
    json_t *old = NULL;
    if (*op == 't')
        return at->value && equal(at->value, value) ? OK : fail(p, "testing value failed", path);
    if (*op == 'r' && (removes || at->parent)) {
        code = take_out(p, at, path, &old);
        json_decref(old);
    }
    if (!code && !removes)
        put(p, at, json_deep_copy(value));
    return code;
}

enum errc patch_json(const json_t *doc, const json_t *operations, json_t **ret_doc,
                     struct error *err) {
    if (!json_is_array(operations))
        return err_set(err, ERR_MALFORMED, "a JSON patch is an array of operations");
    if (json_array_size(operations) > PATCH_OPERATIONS_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "The allowed maximum operations in a JSON patch is %d, got %zu",
                       PATCH_OPERATIONS_MAX, json_array_size(operations));
    struct patcher p = {.doc = json_deep_copy(doc), .err = err};
    AUTO_FREE struct place *at = mem_alloc(sizeof(*at));
    enum errc code = OK;
    for (; !code && p.index < json_array_size(operations); p.index++)
        code = apply(&p, at, json_array_get(operations, p.index));
    if (code)
        json_decref(p.doc);
    else
        *ret_doc = p.doc;
    return code;
}
