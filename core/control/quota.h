/* ResourceQuotas: what a namespace may hold. */
#ifndef CORE_CONTROL_QUOTA_H
#define CORE_CONTROL_QUOTA_H

#include "core/charges.h"
#include "core/control/world.h"

/* Counts a new object, or what a changed one adds to `old`, in every quota of its namespace that
 * counts such objects: the updated quotas become charges, to be committed with it. ERR_FORBIDDEN,
 * without the object's name in front: a quota would be exceeded, or a container says nothing about
 * a resource that is bounded.
 */
MUST_CHECK enum errc quota_charge(struct store *st, const char *group, const char *resource,
                                  const json_t *object, const json_t *old, struct charges *charges,
                                  struct error *err);

/* Writes into status what is held now: after deletions, and for quotas that are new. */
MUST_CHECK enum errc quota_reconcile(struct world *w, const char *ns, const char *name,
                                     struct error *err);
/* Looks at the quotas of a namespace again: something in it came, went or ended. */
void quota_enqueue(struct world *w, const char *ns);

#endif
