/* Kubernetes Events: what happened to an object, for `kubectl describe` and `kubectl events`.
 *
 * An event that repeats (same object, reason, message, source) is one Event with a count, and those
 * that differ in their message only are combined when they are many. Events of a round are kept and
 * written together: one disk sync, and never in the way of real state. */
#ifndef CORE_CONTROL_EVENTS_H
#define CORE_CONTROL_EVENTS_H

#include "core/control/world.h"

enum {
    EVENTS_MESSAGE_BYTES_MAX = 1024, /* Kubernetes' bound; longer ones are cut */
    EVENTS_EXPIRED_MAX = 256,        /* in one commit */
    EVENTS_BUFFERED_MAX = 256,       /* of one round; more are counted and dropped with a warning */
    EVENTS_ALIKE_MAX = 10,           /* events that differ in their message only; then combined */
    EVENTS_ALIKE_SECONDS = 600,      /* as long as they come within this of each other */
};

struct event_buffer *events_create(void);
void events_destroy(struct event_buffer *b);

#define EVENT_NORMAL  "Normal"
#define EVENT_WARNING "Warning"

/* regarding: the object (with kind, apiVersion, uid). component: "kubelet",
 * "deployment-controller", "default-scheduler" ... */
void event_emit(struct world *w, const json_t *regarding, const char *type, const char *reason,
                const char *component, const char *fmt, ...) PRINTF(6, 7);

void events_flush(struct world *w); /* writes what the round emitted */
/* Deletes what is older than config's event_ttl_seconds, EVENTS_EXPIRED_MAX at once. True: there
 * may be more. */
bool events_expire(struct world *w);

#endif
