/* x-kubernetes-validations: the rules in CEL that a schema asks of its values. */
#ifndef KUBE_COMPAT_SCHEMA_CEL_H
#define KUBE_COMPAT_SCHEMA_CEL_H

#include "kube-compat/schema_rules.h"

enum {
    SCHEMA_CEL_RULES_MAX = 64,         /* at one schema */
    SCHEMA_CEL_OBJECT_COST = 10000000, /* steps that all rules of an object may take */
};

struct cel_program;

struct schema_cel {
    const char *rule, *message; /* message NULL: "failed rule: RULE" */
    const char *reason;         /* of the cause */
    const char *field;          /* below the value; NULL: the value itself */
    const struct cel_program *program, *message_program;
    bool old_is_optional;
};

/* Appends a cause for each rule in value, below `s`, that does not hold. old: what it was before,
 * NULL on create; rules about oldSelf are only asked where there is an old value. The value fits
 * the schema already. */
void schema_cel_check(const struct schema *s, const json_t *value, const json_t *old,
                      json_t *causes);

#endif
