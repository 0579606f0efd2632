/* Tables: column definitions from the kind's data, one row an object.
 *
 * The first column is Name with format "name" (kubectl prefixes it with the kind when it prints
 * several). Every column is always sent; kubectl hides priority > 0 unless -o wide. A row carries
 * the object's metadata, which must have kind and apiVersion or kubectl prints garbage. */
#include "kube-compat/table.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/json_path.h"

enum table_include table_include(const char *query) {
    if (query && !strcmp(query, "None"))
        return TABLE_INCLUDE_NONE;
    return query && !strcmp(query, "Object") ? TABLE_INCLUDE_OBJECT : TABLE_INCLUDE_METADATA;
}

void table_age(const char *rfc3339, int64_t now_ms, char out[32]) {
    int64_t then = rfc3339 ? clock_parse_rfc3339(rfc3339) : -1;
    if (then < 0) {
        snprintf(out, 32, "<unknown>");
        return;
    }
    int64_t s = (now_ms - then) / 1000;
    if (s < 0) /* a little ahead of us is now; more is somebody's wrong clock */
        s = 0;
    int64_t m = s / 60, h = s / 3600, d = h / 24, y = d / 365;
    struct {
        int64_t big, small;
        const char *big_unit, *small_unit;
    } a = {0};
    if (s < 120)
        snprintf(out, 32, "%llds", (long long)s);
    else if (m < 10)
        a.big = m, a.small = s % 60, a.big_unit = "m", a.small_unit = "s";
    else if (m < 180)
        snprintf(out, 32, "%lldm", (long long)m);
    else if (h < 8)
        a.big = h, a.small = m % 60, a.big_unit = "h", a.small_unit = "m";
    else if (h < 48)
        snprintf(out, 32, "%lldh", (long long)h);
    else if (d < 8)
        a.big = d, a.small = h % 24, a.big_unit = "d", a.small_unit = "h";
    else if (d < 365 * 2)
        snprintf(out, 32, "%lldd", (long long)d);
    else if (y < 8)
        a.big = y, a.small = d % 365, a.big_unit = "y", a.small_unit = "d";
    else
        snprintf(out, 32, "%lldy", (long long)y);
    if (!a.big_unit)
        return;
    if (a.small)
        snprintf(out, 32, "%lld%s%lld%s", (long long)a.big, a.big_unit, (long long)a.small,
                 a.small_unit);
    else
        snprintf(out, 32, "%lld%s", (long long)a.big, a.big_unit);
}

static json_t *column(const char *name, const char *type, const char *format,
                      const char *description, int priority) {
    return json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", name, "type", type, "format",
                     format ? format : "", "description", description ? description : "",
                     "priority", priority);
}

static json_t *columns(const struct kind *kind) {
    json_t *list = json_array();
    if (kind->name_column)
        json_array_append_new(
            list, column("Name", "string", "name", "Name must be unique within a namespace.", 0));
    for (uint32_t i = 0; i < kind->num_columns; i++) {
        const struct kind_column *c = &kind->columns[i];
        /* A date is printed as an age, which is text. */
        const char *type = c->type && strcmp(c->type, "date") != 0 ? c->type : "string";
        json_array_append_new(list, column(c->name, type, c->format, c->description, c->priority));
    }
    return list;
}

static void scalar_text(const json_t *v, struct buf *out) {
    if (json_is_string(v)) {
        buf_puts(out, json_string_value(v));
    } else {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        buf_puts(out, text ? text : "");
        free(text);
    }
}

/* A value that a path found, as the column's type wants it. */
static json_t *typed(const struct kind_column *c, json_t *v, int64_t now_ms) {
    if (!strcmp(c->type, "date")) {
        char age[32];
        table_age(json_string_value(v), now_ms, age);
        return json_string(age);
    }
    if (!strcmp(c->type, "string") && !json_is_string(v)) {
        AUTO_BUF text = BUF_INIT;
        scalar_text(v, &text);
        return json_stringn(text.data ? text.data : "", text.len);
    }
    return json_incref(v);
}

static json_t *path_cell(const struct kind_column *c, const json_t *object, int64_t now_ms) {
    json_t *found = json_array(), *cell = NULL;
    json_path_find(object, c->json_path, found);
    size_t num = json_array_size(found);
    json_t *first = json_array_get(found, 0);
    if (num > 1 && strstr(c->json_path, "[*]")) {
        AUTO_BUF text = BUF_INIT;
        for (size_t i = 0; i < num; i++) {
            if (i)
                buf_putc(&text, ',');
            scalar_text(json_array_get(found, i), &text);
        }
        cell = json_stringn(text.data, text.len);
    } else if (num && !json_is_null(first)) {
        cell = typed(c, first, now_ms);
    }
    json_decref(found);
    if (json_is_string(cell) && !json_string_length(cell) && c->empty) {
        json_decref(cell);
        cell = NULL;
    }
    if (cell)
        return cell;
    if (!c->empty)
        return json_null();
    return !strcmp(c->type, "integer") ? json_integer(strtoll(c->empty, NULL, 10))
                                       : json_string(c->empty);
}

static json_t *row(const struct kind *kind, json_t *object, enum table_include include,
                   int64_t now_ms) {
    json_t *cells = json_array();
    if (kind->name_column)
        json_array_append_new(cells, json_string(object_name(object) ? object_name(object) : ""));
    for (uint32_t i = 0; i < kind->num_columns; i++) {
        const struct kind_column *c = &kind->columns[i];
        json_array_append_new(cells, c->cell ? table_cell(c->cell, object, now_ms)
                                             : path_cell(c, object, now_ms));
    }
    json_t *o = json_pack("{s:o}", "cells", cells);
    if (include == TABLE_INCLUDE_OBJECT)
        json_object_set(o, "object", object);
    else if (include == TABLE_INCLUDE_METADATA)
        json_object_set_new(o, "object",
                            json_pack("{s:s, s:s, s:O*}", "kind", "PartialObjectMetadata",
                                      "apiVersion", "meta.k8s.io/v1", "metadata",
                                      json_object_get(object, "metadata")));
    return o;
}

static json_t *table(json_t *metadata, json_t *column_definitions, json_t *rows) {
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "kind", "Table", "apiVersion", "meta.k8s.io/v1",
                     "metadata", metadata, "columnDefinitions", column_definitions, "rows", rows);
}

json_t *table_of_reply(const struct kind *kind, const json_t *object, enum table_include include,
                       int64_t now_ms) {
    json_t *rows = json_array();
    json_t *items = json_object_get(object, "items");
    json_t *metadata;
    if (json_is_array(items)) {
        for (size_t i = 0; i < json_array_size(items); i++)
            json_array_append_new(rows, row(kind, json_array_get(items, i), include, now_ms));
        metadata = json_incref(json_object_get(object, "metadata"));
    } else {
        json_array_append_new(rows, row(kind, (json_t *)(uintptr_t)object, include, now_ms));
        metadata =
            json_pack("{s:s*}", "resourceVersion", object_str(object, "metadata.resourceVersion"));
    }
    return table(metadata, columns(kind), rows);
}

json_t *table_of_event(const struct kind *kind, const json_t *object, enum table_include include,
                       bool with_columns, int64_t now_ms) {
    json_t *metadata =
        json_pack("{s:s*}", "resourceVersion", object_str(object, "metadata.resourceVersion"));
    json_t *rows = json_array();
    json_array_append_new(rows, row(kind, (json_t *)(uintptr_t)object, include, now_ms));
    return table(metadata, with_columns ? columns(kind) : json_null(), rows);
}
