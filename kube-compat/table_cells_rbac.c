/* Cells of role bindings, as kubectl's printers write them. */
#include "kube-compat/table_cells.h"

#include "core/object.h"

static const char *or_empty(const char *text) {
    return text ? text : "";
}

static void role_ref(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%s/%s", or_empty(object_str(o, "roleRef.kind")),
               or_empty(object_str(o, "roleRef.name")));
}

/* The names of the subjects of a kind. */
static void subjects(const json_t *o, const char *kind, struct buf *out) {
    size_t i;
    json_t *s;
    json_array_foreach (json_object_get(o, "subjects"), i, s) {
        const char *ns = object_str(s, "namespace");
        if (strcmp(or_empty(object_str(s, "kind")), kind) != 0)
            continue;
        if (out->len)
            buf_puts(out, ", ");
        if (!strcmp(kind, "ServiceAccount"))
            buf_printf(out, "%s/", or_empty(ns));
        buf_puts(out, or_empty(object_str(s, "name")));
    }
}

static void users(const json_t *o, int64_t now_ms, struct buf *out) {
    subjects(o, "User", out);
}

static void groups(const json_t *o, int64_t now_ms, struct buf *out) {
    subjects(o, "Group", out);
}

static void service_accounts(const json_t *o, int64_t now_ms, struct buf *out) {
    subjects(o, "ServiceAccount", out);
}

const struct table_cell_row table_cells_rbac[] = {
    {"role-ref", role_ref, false},
    {"subject-users", users, false},
    {"subject-groups", groups, false},
    {"subject-service-accounts", service_accounts, false},
    {0},
};
