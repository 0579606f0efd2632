/* The formats of strings that schemas of custom resources may ask for, by Kubernetes' names. */
#ifndef KUBE_COMPAT_SCHEMA_FORMAT_H
#define KUBE_COMPAT_SCHEMA_FORMAT_H

#include "kube-compat/schema.h"

struct schema_string_format {
    const char *name; /* "ipv4" */
    enum schema_format format;
    bool (*check)(const char *text); /* NULL: every string has it */
};

/* NULL: not a format that is checked. */
const struct schema_string_format *schema_format_find(const char *name);

#endif
