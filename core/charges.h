/* Writes that must reach the store together with another one, or not at all: a quota that counts a
 * new object, a disruption budget that an eviction uses up.
 *
 * Each expects the revision that was read. When somebody wrote in between nothing happens and the
 * answer is ERR_CONFLICT: the caller judges anew from what is there now. So two clients that race
 * for the last place of a quota cannot both get it, and nobody holds a lock. */
#ifndef CORE_CHARGES_H
#define CORE_CHARGES_H

#include "core/store.h"

enum { CHARGES_MAX = 32 };

struct charges {
    struct store_object *was[CHARGES_MAX]; /* references */
    json_t *now[CHARGES_MAX];
    size_t num;
};

void charges_deinit(struct charges *c);
#define AUTO_CHARGES __attribute__((cleanup(charges_deinit))) struct charges

/* `was` (shared) is to become `now` (taken). ERR_EXHAUSTED: more than CHARGES_MAX. */
MUST_CHECK enum errc charges_add(struct charges *c, struct store_object *was, json_t *now,
                                 struct error *err);

/* Commits `write` (its object is taken) and the charges, which are empty afterwards. ret_o may be
 * NULL and gets what `write` made. ERR_CONFLICT: also when there were charges and one of the
 * objects is gone; else as store_commit(). */
MUST_CHECK enum errc charges_commit(struct charges *c, struct store *st,
                                    const struct store_write *write, struct store_object **ret_o,
                                    struct error *err);

#endif
