/* ScaledObjects (keda.sh/v1alpha1): every pollingInterval each asks its triggers, scales its target
 * to zero and back and between, and writes its status. Owned by the control thread. */
#ifndef CORE_CONTROL_SCALED_OBJECT_H
#define CORE_CONTROL_SCALED_OBJECT_H

#include "core/control/world.h"

enum { SCALED_OBJECT_ANSWERS_MAX = 1024 }; /* that wait to be taken; bounded by HTTP_GETS_MAX */

/* What is remembered of each, and the answers that came from elsewhere. notify is called from
 * another thread when one has come; NULL: nobody is to be told. */
struct scaled_object_table *scaled_object_table_create(void (*notify)(void *user), void *user);
/* Questions under way must have been answered: the getter goes first. */
void scaled_object_table_destroy(struct scaled_object_table *t);

MUST_CHECK enum errc scaled_object_reconcile(struct world *w, const char *ns, const char *name,
                                             struct error *err);
/* Gives the answers that came to their objects, and queues those that have all. */
void scaled_object_take_answers(struct world *w);

/* An event of such an object is news: its own status writes are none. */
bool scaled_object_is_news(const struct store_event *e);

/* True: one that works scales this Deployment, and is not paused. */
bool scaled_object_governs(struct world *w, const char *ns, const char *deployment);
/* A request waits for the Deployment: the one that governs it starts a replica if there is none. */
void scaled_object_wake(struct world *w, const char *ns, const char *deployment);

#endif
