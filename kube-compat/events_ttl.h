/* Events are for looking at soon: old ones go. */
#ifndef KUBE_COMPAT_EVENTS_TTL_H
#define KUBE_COMPAT_EVENTS_TTL_H

#include "core/store.h"

enum { EVENTS_DROPPED_MAX = 256 }; /* in one commit; the rest goes next time */

/* Drops Events that were last seen more than ttl_seconds (<= 0: never) before now_ms. */
MUST_CHECK enum errc events_drop_old(struct store *st, int64_t ttl_seconds, int64_t now_ms,
                                     size_t *ret_num, struct error *err);

#endif
