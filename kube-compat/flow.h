/* Who may have how much of the API server at once: fair queueing of requests among identities.
 *
 * A decider: no clock, no lock, no thread; its owner calls it under a lock of its own. A request
 * has a cost, 1 for what touches one object, more for a list by the number of its objects. What
 * fits into the bounds runs; the rest waits, and whoever has had least runs next. */
#ifndef KUBE_COMPAT_FLOW_H
#define KUBE_COMPAT_FLOW_H

#include "core/base/mem.h"

struct flow;
struct flow_identity;

struct flow_limits {
    uint32_t cost_max;          /* of all requests that run */
    uint32_t identity_cost_max; /* of one identity's that run; one alone may always be dearer */
    uint32_t waiting_max, identity_waiting_max; /* requests */
    uint32_t identity_watches_max;
};

/* A request in the decider's hands; the owner embeds it. */
struct flow_request {
    struct flow_request *next; /* of the identity's that wait */
    struct flow_identity *identity;
    uint32_t cost;
    uint64_t start; /* virtual time */
    uint64_t order; /* of arrival, among equals */
};

enum flow_verdict { FLOW_RUN, FLOW_WAIT, FLOW_REFUSE };

struct flow *flow_create(const struct flow_limits *limits);
void flow_destroy(struct flow *f); /* what waits is the owner's to drop first: see flow_take() */
DEFINE_AUTO(flow, flow_destroy)

/* A request arrives: it runs from now on, waits for its turn, or finds its queue full (then nothing
 * is kept of it). cost >= 1. */
enum flow_verdict flow_arrive(struct flow *f, const char *identity, uint32_t cost,
                              struct flow_request *r);
/* The request whose turn it is, which runs from now on; NULL: none may. */
struct flow_request *flow_next(struct flow *f);
/* Takes a waiting request out without running it, for the end; NULL: none waits. */
struct flow_request *flow_take(struct flow *f);
void flow_done(struct flow *f, struct flow_request *r); /* it ran */

bool flow_has_running(const struct flow *f, const char *identity);

/* Open watches: counted apart, because they cost memory for long and work only now and then. False:
 * the identity has as many as it may. */
MUST_CHECK bool flow_watch_open(struct flow *f, const char *identity,
                                struct flow_identity **ret_identity);
void flow_watch_close(struct flow *f, struct flow_identity *identity);

struct flow_counts {
    uint32_t running, waiting, watches, identities;
    uint32_t cost; /* of what runs */
};
struct flow_counts flow_count(const struct flow *f);

#endif
