/* events.k8s.io/v1: the same stored Events in the newer group's words. */
#ifndef KUBE_COMPAT_EVENTS_VIEW_H
#define KUBE_COMPAT_EVENTS_VIEW_H

#include <jansson.h>

#include "kube-compat/kinds.h"

/* Gives the object as `kind` shows it: a new reference to object, or a converted copy. */
json_t *kind_show(const struct kind *kind, json_t *stored);

/* Converts an object in kind's form (taken) to the stored form. */
json_t *kind_store(const struct kind *kind, json_t *shown);

#endif
