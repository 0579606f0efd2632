/* Defaults and rules of quotas, limit ranges, priority classes, disruption budgets and autoscalers:
 * validate.h's, continued. Pure. */
#ifndef KUBE_COMPAT_POLICY_RULES_H
#define KUBE_COMPAT_POLICY_RULES_H

#include "kube-compat/kinds.h"

/* The first status of a new object. True: the kind is one of these. */
bool policy_defaults_new(const struct kind *kind, json_t *object);
void policy_defaults(const struct kind *kind, json_t *object);

/* Append causes. */
void policy_validate(const struct kind *kind, const json_t *object, json_t *causes);
void policy_validate_update(const struct kind *kind, const json_t *object, const json_t *old,
                            json_t *causes);

#endif
