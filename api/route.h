/* Which InferenceService a request is for. Pure: a table and a request in, a decision out.
 *
 *   by host     NAME.NAMESPACE.DOMAIN and the other hosts of a service: everything goes there
 *   by path     /serving/NAMESPACE/NAME/REST: the replica sees /REST
 *   by tag      both with TAG-NAME instead of NAME, where no service is called that: one revision
 *   by model    the `model` of a JSON body under /v1/ or /openai/v1/, or the model in the path of
 *               /v1/models/MODEL[:predict], /v2/models/MODEL/...
 * A model that several services serve goes to the first (by namespace, name) that is ready. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "core/control/traffic.h"

struct route_request {    /* all borrowed */
    const char *host;     /* the Host header; NULL: none */
    const char *raw_path; /* as sent: "/serving/default/demo/v1/models" */
    const char *path;     /* decoded */
    const char *raw_query;
    const char *body; /* NUL-terminated */
    size_t body_len;
};

struct route {
    const struct traffic_service *service; /* borrowed from the table */
    const struct traffic_tag *tag; /* borrowed: that revision is asked for; NULL: by the shares */
    const char *target;            /* request target for the replica, query included; arena */
};

/* NULL: no service has that host. *ret_tag is NULL where it is not a tag's. */
const struct traffic_service *route_by_host(const struct traffic_table *table, const char *host,
                                            const struct traffic_tag **ret_tag);

/* ERR_NOT_FOUND: no such service or model (names the known ones), or a path that nobody serves.
 * ERR_MALFORMED, ERR_INVALID: a body without a usable `model`. */
MUST_CHECK enum errc route_find(const struct traffic_table *table, const struct route_request *rq,
                                struct arena *arena, struct route *ret_route, struct error *err);

/* Gives (arena) the string member `model` of the top-level JSON object, without parsing the rest.
 * ERR_MALFORMED: not a JSON object; ERR_INVALID: no such member, or no string. What follows the
 * object, or is wrong deeper inside, is left to the replica. */
MUST_CHECK enum errc route_body_model(const char *body, size_t len, struct arena *arena,
                                      const char **ret_model, struct error *err);

/* True when a client may expect an answer: a replica is ready. */
bool route_is_ready(const struct traffic_service *s);

#endif
