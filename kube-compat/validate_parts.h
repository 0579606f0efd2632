/* The parts of validation: rules of pod specs, services and data. Inside the folder only; what the
 * write pipeline calls is validate.h. All append causes. Pure. */
#ifndef KUBE_COMPAT_VALIDATE_PARTS_H
#define KUBE_COMPAT_VALIDATE_PARTS_H

#include "kube-compat/kinds.h"

enum { VALIDATE_FIELD_BYTES_MAX = 512 };

/* `Invalid value: "VALUE": WHY`; `Required value[: WHY]` (why may be NULL). */
void validate_invalid(json_t *causes, const char *field, const char *value, const char *why);
void validate_required(json_t *causes, const char *field, const char *why);
/* Label keys and values. */
void validate_labels(const json_t *labels, const char *field, json_t *causes);

/* path: "spec", or "spec.template.spec" for that of a Deployment. */
void validate_pod_spec(const json_t *spec, const char *path, json_t *causes);
void validate_pod_update(const struct kind *kind, const json_t *object, const json_t *old,
                         json_t *causes);

void validate_service(const json_t *service, json_t *causes);

void validate_config_map(const json_t *config_map, json_t *causes);
void validate_secret(const json_t *secret, json_t *causes);
/* Of either, when `immutable` is set. */
void validate_frozen(const json_t *object, const json_t *old, json_t *causes);

#endif
