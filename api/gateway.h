/* The gateway: the data plane's front door. Finds the InferenceService a request is for (route.h),
 * relays it to a replica (relay.h), and answers for itself: /healthz, /readyz, /metrics, the list
 * of all models (/v1/models), and liveness in the Open Inference Protocol (/v2, /v2/health/...). A
 * host that names a service gets only that service's own answers. */
#ifndef API_GATEWAY_H
#define API_GATEWAY_H

#include "core/base/metrics.h"
#include "core/control/traffic.h"
#include "core/http.h"
#include "core/series/series.h"

struct gateway;

struct gateway_options {
    const char *listen;     /* as http_server_options; NULL or "": not without TLS */
    const char *tls_listen; /* the same with TLS; NULL or "": not with it */
    struct tls *tls;        /* needed for it; borrowed, like traffic and metrics, for the life */
    struct traffic *traffic;
    struct metrics *metrics; /* NULL: its own; shown at /metrics */
    struct series *series;   /* asked at /api/v1/query (series_query.h); NULL: that is not there */
    int64_t queue_max;       /* requests held per service; 0: none is held */
    int64_t hold_ms;         /* how long each */
    int64_t hold_bytes_max;  /* their bodies, per service; 0: unbounded */
    int64_t body_bytes_max;  /* 0: HTTP_BODY_BYTES_MAX */
};

/* ERR_INVALID: it is to listen nowhere. */
MUST_CHECK enum errc gateway_start(const struct gateway_options *opt, struct gateway **ret_gateway,
                                   struct error *err);
/* "127.0.0.1:8080"; borrowed. NULL: it does not listen there. */
const char *gateway_address(const struct gateway *g);
const char *gateway_tls_address(const struct gateway *g);
void gateway_drain(struct gateway *g); /* refuses new requests; streams go on */
uint32_t gateway_num_open(const struct gateway *g);
/* Cuts what is left. */
void gateway_stop(struct gateway *g);
DEFINE_AUTO(gateway, gateway_stop)

#endif
