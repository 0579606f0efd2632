/* The relay thread of the gateway: takes an exchange and a service, and sees it through.
 *
 * It picks a replica, passes the request on, streams the answer back as it comes, holds requests
 * while replicas start, and tries once more elsewhere when a replica fails before it has said
 * anything. Every exchange that is submitted gets an answer. */
#ifndef API_RELAY_H
#define API_RELAY_H

#include "api/route.h"
#include "core/base/metrics.h"
#include "core/http.h"

struct relay;

struct relay_options {
    struct traffic *traffic; /* borrowed, like metrics, for the relay's life */
    struct metrics *metrics;
    uint32_t queue_max;     /* requests held per service; one more is answered 429 */
    int64_t hold_ms;        /* how long each; then 503 */
    int64_t hold_bytes_max; /* bodies held per service; 0: unbounded; above it: 429 */
};

MUST_CHECK enum errc relay_start(const struct relay_options *opt, struct relay **ret_relay,
                                 struct error *err);
/* Answers what is left with 503. The HTTP server of the exchanges must be stopped before. */
void relay_stop(struct relay *r);
DEFINE_AUTO(relay, relay_stop)

/* Takes the exchange, from its handler; borrows the route for the call. */
void relay_submit(struct relay *r, struct http_exchange *x, const struct route *route);

/* One more answered request that never reached a replica: for the metrics. ns, name: NULL when no
 * service was found. */
void relay_count(struct metrics *m, const char *ns, const char *name, int status);

#endif
