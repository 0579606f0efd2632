/* Requests on their way to a thread: at once, or in their turn (flow.h decides). */
#ifndef KUBE_COMPAT_DISPATCH_H
#define KUBE_COMPAT_DISPATCH_H

#include "core/base/metrics.h"
#include "core/http.h"
#include "kube-compat/flow.h"

struct audit_record;
struct dispatch;
struct kube;

enum {
    DISPATCH_THREADS = 32,   /* they wait for the store most of the time */
    DISPATCH_QUICK_COST = 2, /* as much may run on the HTTP server's own thread */
    DISPATCH_RETRY_SECONDS = 1,
};

/* One request, from its arrival until its answer has ended. */
struct ticket {
    struct kube *kube;
    struct http_exchange *x;
    struct audit_record *audit;

    /* The dispatch's own. */
    struct flow_request flow;
    struct flow_identity *watch; /* NULL: it is no watch */
    struct ticket *next;         /* ready to run */
    int64_t arrived_ns;
    _Atomic uint32_t refs; /* until it was served, and until its answer has ended */
};

/* Answers t->x; stopping: with a refusal, because the server stops. Called by the threads. */
typedef void dispatch_serve_fn(struct ticket *t, bool stopping);

struct dispatch_options {
    struct flow_limits limits;
    dispatch_serve_fn *serve;
    struct metrics *metrics; /* borrowed */
};
MUST_CHECK enum errc dispatch_create(const struct dispatch_options *opt, struct dispatch **ret_d,
                                     struct error *err);
/* Refuses what waits, joins the threads. Streams go on; nothing may be submitted any more. */
void dispatch_stop(struct dispatch *d);
void dispatch_destroy(struct dispatch *d); /* every ticket must have ended */
DEFINE_AUTO(dispatch, dispatch_destroy)

/* Gives a ticket, with the two references that dispatch_served() and dispatch_ended() drop. */
struct ticket *dispatch_ticket(struct kube *kube, struct http_exchange *x);

struct dispatch_request {
    const char *identity;
    uint32_t cost;
    bool may_block; /* waits for the store: not on the HTTP server's thread when others of this
                       identity run */
    bool watch;     /* goes on for long: counted against the identity's bound */
};
/* *ret_here: the caller serves the ticket now, then calls dispatch_served(). Not here: a thread
 * does, and has perhaps already; do not touch the ticket. ERR_EXHAUSTED: too much of this
 * identity's waits, or is watched; the caller answers that and calls dispatch_served(). */
MUST_CHECK enum errc dispatch_submit(struct dispatch *d, struct ticket *t,
                                     const struct dispatch_request *rq, bool *ret_here,
                                     struct error *err);
void dispatch_served(struct dispatch *d, struct ticket *t);
void dispatch_ended(struct dispatch *d, struct ticket *t); /* the answer has */

#endif
