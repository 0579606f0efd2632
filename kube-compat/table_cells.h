/* The cells that only code can compute, in several tables. */
#ifndef KUBE_COMPAT_TABLE_CELLS_H
#define KUBE_COMPAT_TABLE_CELLS_H

#include <jansson.h>

#include "core/base/buf.h"

/* Writes the cell's text for an object. */
typedef void table_cell_fn(const json_t *o, int64_t now_ms, struct buf *out);

struct table_cell_row {
    const char *name; /* a column's x-cell; NULL ends the table */
    table_cell_fn *fn;
    bool integer;
};

/* Quotas, budgets, endpoints, autoscalers. */
extern const struct table_cell_row table_cells_policy[];
/* Roles and bindings. */
extern const struct table_cell_row table_cells_rbac[];
/* What pods and nodes use. */
extern const struct table_cell_row table_cells_usage[];

#endif
