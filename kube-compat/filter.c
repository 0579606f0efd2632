/* Filters: a label selector looks into metadata.labels, a field selector at paths that the kind
 * declares (kinds.h); scalars of any JSON type are compared by their text. */
#include "kube-compat/filter.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/table.h"

struct field_subject {
    const struct kind *kind;
    const json_t *object;
};

static const struct kind_field *find_field(const struct kind *kind, const char *path) {
    for (uint32_t i = 0; i < kind->num_fields; i++) {
        if (!strcmp(kind->fields[i].path, path))
            return &kind->fields[i];
    }
    return NULL;
}

static bool is_common(const char *path) {
    return !strcmp(path, "metadata.name") || !strcmp(path, "metadata.namespace");
}

static enum errc check_fields(const struct filter *f, struct error *err) {
    for (size_t i = 0; i < f->fields->num_requirements; i++) {
        const char *path = f->fields->requirements[i].key;
        if (is_common(path) || find_field(f->kind, path))
            continue;
        return err_set(err, ERR_MALFORMED, "field label not supported: %.200s", path);
    }
    return OK;
}

enum errc filter_init(struct filter *f, const struct kind *kind, const char *labels,
                      const char *fields, struct error *err) {
    *f = (struct filter){.kind = kind};
    enum errc code = OK;
    if (labels && *labels)
        code = selector_parse_labels(labels, &f->labels, err);
    if (!code && fields && *fields) {
        code = selector_parse_fields(fields, &f->fields, err);
        if (!code)
            code = check_fields(f, err);
    }
    if (code)
        filter_deinit(f);
    return code;
}

void filter_deinit(struct filter *f) {
    selector_destroy(f->labels);
    selector_destroy(f->fields);
    f->labels = f->fields = NULL;
}

static const char *label_of(const void *subject, const char *key) {
    return object_label(subject, key);
}

static const char *text_of(const json_t *v) {
    static _Thread_local char text[32];
    if (json_is_string(v))
        return json_string_value(v);
    if (json_is_boolean(v))
        return json_is_true(v) ? "true" : "false";
    if (!json_is_integer(v))
        return NULL;
    snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
    return text;
}

static const char *field_of(const void *subject, const char *path) {
    static _Thread_local char computed[TABLE_CELL_BYTES_MAX];
    const struct field_subject *s = subject;
    const struct kind_field *f = find_field(s->kind, path);
    const char *value;
    if (f && f->cell) {
        table_cell_text(f->cell, s->object, computed);
        value = computed;
    } else {
        value = text_of(object_at(s->object, path));
    }
    if (!value && !strcmp(path, "spec.unschedulable"))
        return "false";
    return value ? value : "";
}

bool filter_match(const struct filter *f, const json_t *object) {
    if (f->labels && !selector_match(f->labels, label_of, object))
        return false;
    struct field_subject subject = {f->kind, object};
    return !f->fields || selector_match(f->fields, field_of, &subject);
}

bool filter_empty(const struct filter *f) {
    return !f->labels && !f->fields;
}
