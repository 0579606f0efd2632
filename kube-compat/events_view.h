/* Views: the same stored object under another version. events.k8s.io/v1 has its own words for the
 * core group's Events; versions of a user's kind differ in their apiVersion alone. */
#ifndef KUBE_COMPAT_EVENTS_VIEW_H
#define KUBE_COMPAT_EVENTS_VIEW_H

#include <jansson.h>

#include "kube-compat/kinds.h"

/* Gives a stored object as `kind` shows it, managedFields opened: a new reference, or a copy. */
json_t *kind_show(const struct kind *kind, json_t *stored);

/* Converts an object in kind's form (taken) to the stored form. */
json_t *kind_store(const struct kind *kind, json_t *shown);

#endif
