/* Content negotiation: which of the forms that a handler can produce the Accept header prefers. */
#ifndef KUBE_COMPAT_ACCEPT_H
#define KUBE_COMPAT_ACCEPT_H

enum accept_form {
    ACCEPT_NONE = 0, /* nothing fits: 406 */
    ACCEPT_JSON = 1 << 0,
    ACCEPT_YAML = 1 << 1,
    ACCEPT_TABLE = 1 << 2,
    ACCEPT_METADATA = 1 << 3,       /* PartialObjectMetadata, and its list */
    ACCEPT_DISCOVERY_V2 = 1 << 4,   /* APIGroupDiscoveryList */
    ACCEPT_DISCOVERY_BETA = 1 << 5, /* the same, v2beta1 */
    ACCEPT_OPENAPI_PROTOBUF = 1 << 6,
};

/* Walks the clauses in order and gives the first form that is in `allowed` (a set of accept_form).
 * A NULL or empty header means JSON. Clauses that nobody produces are skipped. */
enum accept_form accept_choose(const char *header, unsigned allowed);

#endif
