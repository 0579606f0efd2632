/* Kubernetes objects as JSON: keys, paths, metadata, conditions. Shared by the dialect
 * (kube-compat) and the controllers (core/control), so both spell them alike. */
#ifndef CORE_OBJECT_H
#define CORE_OBJECT_H

#include <jansson.h>

#include "core/base/buf.h"

/* The Kubernetes version that this program speaks: /version and the Node say the same. */
#define KUBERNETES_MINOR   "32"
#define KUBERNETES_VERSION "v1." KUBERNETES_MINOR ".4+inferd." INFERD_VERSION

enum { OBJECT_KEY_BYTES_MAX = 1024 };

/* "GROUP/RESOURCE/NAMESPACE/NAME"; the core group is "core", a cluster-scoped object's namespace
 * is "-". With name NULL: the prefix of a namespace; with both NULL: of the whole resource. */
struct object_key {
    char text[OBJECT_KEY_BYTES_MAX];
};
const char *object_key(struct object_key *out, const char *group, const char *resource,
                       const char *ns, const char *name);

/* Walks "spec.containers.0.name" (a number counts into an array); NULL when absent. Borrowed. A key
 * that has dots in it cannot be named this way: see object_label(), or json_object_get(). */
json_t *object_at(const json_t *o, const char *path);
const char *object_str(const json_t *o, const char *path); /* NULL: absent or not a string */
int64_t object_int(const json_t *o, const char *path, int64_t otherwise);
bool object_bool(const json_t *o, const char *path, bool otherwise);
/* Sets (takes value), making objects on the way (what was there and is not one is replaced);
 * json_null() values are stored as null. */
void object_set(json_t *o, const char *path, json_t *value);
void object_delete(json_t *o, const char *path);

enum { OBJECT_PATH_BYTES_MAX = 256 }; /* a longer path is a broken invariant */

const char *object_name(const json_t *o);
const char *object_namespace(const json_t *o); /* NULL: cluster-scoped */
const char *object_uid(const json_t *o);
const char *object_label(const json_t *o, const char *key);
const char *object_annotation(const json_t *o, const char *key);
bool object_deleting(const json_t *o); /* deletionTimestamp is set */

/* Fills uid, creationTimestamp (and generation 1 when with_generation) of a new object. */
void object_stamp_new(json_t *o, bool with_generation, int64_t wall_ms);
void object_uid_make(char out[37]);   /* random UUID v4 */
void object_name_suffix(char out[6]); /* 5 characters of Kubernetes' alphabet */
/* FNV-based template hash in the same alphabet, stable across runs: pod-template-hash. */
void object_hash_name(const json_t *value, char out[11]);

/* Gives an ownerReference with controller and blockOwnerDeletion true. */
json_t *object_owner_ref(const json_t *owner);
const json_t *object_controller_of(const json_t *o); /* the controller ownerReference, or NULL */
bool object_controlled_by(const json_t *o, const json_t *owner); /* by uid */

/* Gives a JSON string of text from outside (a process's last words, a file name): bytes that are
 * not UTF-8 become U+FFFD, so that it is never NULL. */
json_t *object_text(const char *text);

/* Sets a condition in status.conditions (by type); lastTransitionTime moves only when status
 * changes. reason and message may be NULL. True when anything changed. */
bool object_set_condition(json_t *o, const char *type, const char *status, const char *reason,
                          const char *message, int64_t wall_ms);
void object_remove_condition(json_t *o, const char *type);
const char *object_condition(const json_t *o, const char *type);  /* its status, or NULL */
json_t *object_find_condition(const json_t *o, const char *type); /* borrowed, or NULL */
/* The item of a list (NULL: an empty one) with that `name`: a container, a port. Likewise. */
json_t *object_find_named(const json_t *list, const char *name);

/* Appends the items of `more` that the list does not hold yet, equal in every part. */
void object_add_missing(json_t *list, const json_t *more);

/* Puts the quantities of a map (limits, requests, hard) into canonical text: 1 becomes "1", 1024Mi
 * becomes 1Gi. What is no quantity stays, for validation to name. */
void object_canonical_quantities(json_t *map);

/* True when every key=value of the matchLabels-style object is among labels. NULL selector: false.
 */
bool object_labels_match(const json_t *match_labels, const json_t *labels);

#endif
