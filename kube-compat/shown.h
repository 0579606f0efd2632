/* Objects as text, in the form in which they are answered. Printed once a revision and kept with
 * the object, so that lists, gets, answers to writes and a thousand watchers share one. */
#ifndef KUBE_COMPAT_SHOWN_H
#define KUBE_COMPAT_SHOWN_H

#include "core/store.h"
#include "kube-compat/filter.h"
#include "kube-compat/kinds.h"

/* Is what is stored also what is shown, but for managedFields being text (ADR 9)? */
bool shown_is_stored(const struct kind *kind);

/* The object's JSON as kind_show() would give it, for kinds with shown_is_stored(). Borrowed: lives
 * as long as the object. Any thread. */
const struct store_text *shown_text(struct store_object *o);

/* filter_match() on the object as the kind shows it. */
bool shown_matches(const struct filter *filter, const struct store_object *o);

#endif
