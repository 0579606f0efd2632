/* The store's current objects: ordered by key, immutable, counted. Holds no lock; store.c does. */
#ifndef CORE_STORE_MEMORY_H
#define CORE_STORE_MEMORY_H

#include "core/store.h"

struct store_memory {
    struct store_object **items; /* sorted by key, one reference each */
    size_t len, cap;
};

void store_memory_deinit(struct store_memory *m);

/* Gives an object with one reference; takes json, which already says its revision. */
struct store_object *store_object_create(const char *key, int64_t revision, int64_t create_revision,
                                         json_t *json);

struct store_object *store_memory_find(const struct store_memory *m,
                                       const char *key);               /* borrowed */
void store_memory_put(struct store_memory *m, struct store_object *o); /* takes a reference */
void store_memory_remove(struct store_memory *m, const char *key);

/* The half-open range of items whose key starts with prefix. */
void store_memory_range(const struct store_memory *m, const char *prefix, size_t *ret_first,
                        size_t *ret_end);

#endif
