/* Cells of what pods and nodes use: a pod's is the sum over its containers. */
#include "kube-compat/table_cells.h"

#include "core/object.h"
#include "core/quantity.h"

static __int128 nano_of(const json_t *usage, const char *resource) {
    const char *text = object_str(usage, resource);
    __int128 nano = 0;
    return text && !quantity_nano(text, &nano) ? nano : 0;
}

/* In billionths. */
static __int128 total(const json_t *o, const char *resource) {
    __int128 sum = nano_of(json_object_get(o, "usage"), resource);
    size_t i;
    json_t *c;
    json_array_foreach (json_object_get(o, "containers"), i, c)
        sum += nano_of(json_object_get(c, "usage"), resource);
    return sum;
}

static void cpu(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%lldn", (long long)total(o, "cpu"));
}

static void memory(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%lldKi", (long long)(total(o, "memory") / 1000000000 / 1024));
}

const struct table_cell_row table_cells_usage[] = {
    {"usage-cpu", cpu, false},
    {"usage-memory", memory, false},
    {0},
};
