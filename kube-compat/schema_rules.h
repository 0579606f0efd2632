/* What a CustomResourceDefinition's schema may ask of a value beyond its type. Immutable. */
#ifndef KUBE_COMPAT_SCHEMA_RULES_H
#define KUBE_COMPAT_SCHEMA_RULES_H

#include "kube-compat/schema_pattern.h"
#include "kube-compat/schema.h"

struct schema_list {
    const struct schema **all;
    uint32_t num;
};

struct schema_cel;

struct schema_rules {
    const char *pattern;
    const struct schema_pattern *compiled;
    const struct schema_string_format *format; /* NULL: none that is checked */
    const char *allowed;   /* JSON text of the enum, when it is not of strings alone */
    const char **required; /* fields that the schema does not describe itself; NULL-terminated */
    double minimum, maximum, multiple_of; /* multiple_of 0: none */
    bool has_minimum, has_maximum, exclusive_minimum, exclusive_maximum;
    bool unique;                /* no two items of a set, or of a map's keys, are equal */
    int64_t min_size, max_size; /* characters, items or properties; -1: none */
    struct schema_list one_of, any_of, all_of;
    const struct schema *never;          /* `not` */
    const struct schema_cel *const *cel; /* x-kubernetes-validations (schema_cel.h) */
    uint32_t num_cel;
};

/* Appends a cause for each rule of s that value (of the right type) breaks; path: its field. */
void schema_rules_check(const struct schema *s, const json_t *value, const char *path,
                        struct schema_findings *f);

#endif
