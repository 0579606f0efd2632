/* Request bodies: JSON, YAML or protobuf to one JSON object. */
#ifndef KUBE_COMPAT_BODY_H
#define KUBE_COMPAT_BODY_H

#include "kube-compat/request.h"

enum { BODY_BYTES_MAX = 3 << 20 };

/* Parses JSON text strictly. duplicates (may be NULL) gets `duplicate field "PATH"` for each
 * key that stands twice.
 * ERR_MALFORMED: not JSON, invalid UTF-8, nested deeper than the parser's bound. */
MUST_CHECK enum errc body_parse_json(const char *text, size_t len, json_t *duplicates,
                                     json_t **ret_value, struct error *err);

/* Gives the request's object, NULL when there is no body. schema decodes protobuf; NULL: the
 * schema is found by the body's own apiVersion and kind among the types (DeleteOptions).
 * duplicates as above. ERR_MALFORMED, ERR_MEDIA_TYPE, ERR_TOO_LARGE. */
MUST_CHECK enum errc body_read(const struct request *rq, const struct schema *schema,
                               json_t *duplicates, json_t **ret_object, struct error *err);

/* Defaults or checks apiVersion and kind of a body for the URL's kind. ERR_MALFORMED. */
MUST_CHECK enum errc body_check_kind(json_t *object, const struct kind *kind, struct error *err);

#endif
