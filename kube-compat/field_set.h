/* Sets of an object's fields, as server-side apply counts them: who owns what.
 *
 * A set is kept in the form in which managedFields shows it (FieldsV1), a tree of JSON objects:
 *   "f:name"         the field of an object, or the key of a map
 *   "k:{...}"        the item of an associative list that has these keys
 *   "v:..."          the member of a set of scalars
 *   "."              beside the children of a node: the node itself belongs to the set, too
 * A node without children is a leaf and belongs to the set; the empty root is the empty set. Sets
 * are never changed, so they share parts. Pure: no clock, no I/O. */
#ifndef KUBE_COMPAT_FIELD_SET_H
#define KUBE_COMPAT_FIELD_SET_H

#include <jansson.h>

#include "kube-compat/schema.h"

/* How ownership sees a value: as one, or by its parts. */
enum field_structure { FIELD_LEAF, FIELD_MAP, FIELD_LIST, FIELD_SCALARS };
enum field_structure field_structure(const struct schema *s, const json_t *value);

/* The schema of a member of a FIELD_MAP; schema_any when nothing is known. */
const struct schema *field_member_schema(const struct schema *s, const char *name);

/* Gives what identifies an item of a FIELD_LIST or FIELD_SCALARS, "k:{...}" or "v:..."; free it.
 * NULL: the item lacks a key. */
char *field_element(const struct schema *list, const json_t *item);

/* Gives an object from elements to the items of a list; the first of equal ones counts. */
json_t *field_index(const struct schema *list, const json_t *items);

/* Gives the fields that a configuration names: its leaves, list items and map keys. */
json_t *field_set_of(const struct schema *s, const json_t *config);

/* Give the fields of `after` that are new or differ, and those of `before` that are gone. A NULL
 * object has none. */
json_t *field_set_changed(const struct schema *s, const json_t *before, const json_t *after);
json_t *field_set_removed(const struct schema *s, const json_t *before, const json_t *after);

json_t *field_set_union(const json_t *a, const json_t *b);
json_t *field_set_intersection(const json_t *a, const json_t *b);
json_t *field_set_difference(const json_t *a, const json_t *b);

bool field_set_has_node(const json_t *node); /* the node itself; NULL: false */
bool field_set_valid(const json_t *set);     /* of a set that a client sent */

/* Gives an array of the members' paths, in Kubernetes' words: .spec.containers[name="c"].image */
json_t *field_set_paths(const json_t *set);

#endif
