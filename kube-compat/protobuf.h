/* Kubernetes' protobuf request bodies to JSON. Pure. */
#ifndef KUBE_COMPAT_PROTOBUF_H
#define KUBE_COMPAT_PROTOBUF_H

#include <jansson.h>

#include "kube-compat/schema.h"

enum { PROTOBUF_DEPTH_MAX = 64, PROTOBUF_VALUES_MAX = 1000000 };

/* Reads the envelope ("k8s\0" and a runtime.Unknown); borrowed strings are in arena. */
struct protobuf_envelope {
    const char *api_version, *kind;
    const void *raw;
    size_t raw_len;
};
MUST_CHECK enum errc protobuf_open(const void *body, size_t len, struct arena *arena,
                                   struct protobuf_envelope *ret_envelope, struct error *err);

/* Decodes the message of a schema; gives the object with apiVersion and kind of the envelope. */
MUST_CHECK enum errc protobuf_decode(const struct schema *schema,
                                     const struct protobuf_envelope *envelope, json_t **ret_object,
                                     struct error *err);

#endif
