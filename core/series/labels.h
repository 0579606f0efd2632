/* The labels that tell one series from another, its name among them ("__name__"). Immutable, sorted
 * by name, shared by reference between threads. An empty value is the same as no label. */
#ifndef CORE_SERIES_LABELS_H
#define CORE_SERIES_LABELS_H

#include "core/base/mem.h"

#define LABEL_NAME "__name__"

enum { LABELS_MAX = 64, LABELS_BYTES_MAX = 8192 }; /* of one series: count, names and values */

struct label {
    const char *name, *value;
};

struct labels {
    _Atomic uint32_t refs;
    uint32_t num;
    uint64_t hash;
    struct label items[]; /* the text stands behind them */
};

/* Gives a set; copies. Of two labels with one name the later counts. More than LABELS_MAX are a
 * broken invariant: parsers ask first. */
struct labels *labels_create(const struct label *items, uint32_t num);
struct labels *labels_ref(struct labels *l);
void labels_unref(struct labels *l); /* NULL is fine */
DEFINE_AUTO(labels, labels_unref)

const char *labels_get(const struct labels *l, const char *name); /* "": has none */
bool labels_equal(const struct labels *a, const struct labels *b);
/* By name, then value, of each label in turn: an order for people. */
int labels_compare(const struct labels *a, const struct labels *b);
size_t labels_bytes(const struct labels *l); /* what the set costs */

#endif
