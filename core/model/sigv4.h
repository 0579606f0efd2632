/* AWS Signature Version 4 of a GET. Pure. */
#ifndef CORE_MODEL_SIGV4_H
#define CORE_MODEL_SIGV4_H

#include "core/base/buf.h"

struct sigv4_request {
    const char *host;  /* with the port where it is not the scheme's */
    const char *path;  /* escaped */
    const char *query; /* escaped, sorted by name, "name=value" joined by '&'; "": none */
    const char *region;
    const char *key_id, *secret;
    const char *token; /* of temporary credentials; NULL: none */
    int64_t wall_ms;
};

/* Appends the header lines to send, "Name: value", each with an end of line. */
void sigv4_sign(const struct sigv4_request *r, struct buf *out);

#endif
