/* metadata.managedFields: which client owns which fields of an object, kept on every write.
 *
 * Clients see a list of entries {manager, operation, apiVersion, time, fieldsType, fieldsV1,
 * subresource}. Stored objects carry the same list as one string of JSON, a tenth of the memory of
 * the tree; kind_show() opens it for those who read, and nobody else looks inside. */
#ifndef KUBE_COMPAT_MANAGED_FIELDS_H
#define KUBE_COMPAT_MANAGED_FIELDS_H

#include <jansson.h>

#include "kube-compat/schema.h"

enum {
    MANAGED_UPDATERS_MAX = 10, /* older entries of operation Update are merged into one */
    MANAGED_MANAGER_BYTES_MAX = 128,
};

/* Who writes, and through which door. */
struct managed_writer {
    const char *manager, *api_version;
    const char *subresource; /* NULL: none */
    int64_t wall_ms;
};

/* Gives the object with its managedFields as a list (object: taken). */
json_t *managed_open(json_t *object);

/* Sets metadata.managedFields to the stored form of entries (taken); none: removes it. */
void managed_close(json_t *object, json_t *entries);

/* Gives the entries of a stored object; an empty array when it has none or is NULL. */
json_t *managed_entries(const json_t *stored);

/* Gives the entries from which a write goes on: those that the client sent, if it sent sound ones,
 * none when it sent [] or [{}], which means to forget them, else the stored ones. sent may be NULL
 * or of any type. */
json_t *managed_basis(const json_t *sent, const json_t *stored);

/* Gives the entries after an ordinary write, which takes what it changes away from everybody else:
 * entries (taken) are those before, `before` is NULL for a new object. */
json_t *managed_update(const struct schema *s, json_t *entries, const json_t *before,
                       const json_t *after, const struct managed_writer *writer);

/* The set that an applier owns, borrowed; NULL: none. */
const json_t *managed_applied(const json_t *entries, const struct managed_writer *writer);

/* Sets what the writer owns (set: borrowed); its time moves only when the set is another one. */
void managed_own(json_t *entries, const struct managed_writer *writer, const char *operation,
                 const json_t *set);

/* Gives the union of all entries' sets. */
json_t *managed_union(const json_t *entries);

/* Drops empty entries, merges the oldest updaters above the bound, sorts. */
void managed_tidy(json_t *entries);

/* Moves the time of an applier's entry. */
void managed_touch(json_t *entries, const struct managed_writer *writer);

#define MANAGED_APPLY  "Apply"
#define MANAGED_UPDATE "Update"

/* True when the entry is the writer's, for that operation. */
bool managed_is(const json_t *entry, const struct managed_writer *writer, const char *operation);

#endif
