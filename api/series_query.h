/* Prometheus' HTTP API over the daemon's own series (core/series), for Grafana, KEDA elsewhere, and
 * curl: GET or POST /api/v1/query and /api/v1/query_range. */
#ifndef API_SERIES_QUERY_H
#define API_SERIES_QUERY_H

#include "core/http.h"
#include "core/series/series.h"

/* True: the request was one of these, and is answered. Reads memory only. */
bool series_query_serve(struct series *s, struct http_exchange *x);

#endif
