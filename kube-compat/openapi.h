/* OpenAPI: the schemas of the served kinds, for clients' validation and `kubectl explain`. */
#ifndef KUBE_COMPAT_OPENAPI_H
#define KUBE_COMPAT_OPENAPI_H

#include "kube-compat/request.h"

struct openapi *openapi_create(void);
void openapi_destroy(struct openapi *o);

/* Answers /openapi/v2, /openapi/v3 and /openapi/v3/GROUPVERSION. False: no such document. */
bool openapi_handle(struct request *rq, const char *path);

#endif
