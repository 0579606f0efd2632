/* Kubernetes' rules for names, label keys and values. Pure. */
#ifndef KUBE_COMPAT_NAMES_H
#define KUBE_COMPAT_NAMES_H

#include <stdbool.h>

enum { NAME_LABEL_BYTES_MAX = 63, NAME_SUBDOMAIN_BYTES_MAX = 253, NAME_PORT_BYTES_MAX = 15 };

bool name_is_dns1123_label(const char *s);
bool name_is_dns1123_subdomain(const char *s);
bool name_is_dns1035_label(const char *s);
bool name_is_qualified(const char *s); /* a label or annotation key: "example.com/name" */
bool name_is_label_value(const char *s);
bool name_is_path_segment(const char *s); /* any name that fits one segment of a URL */

/* Why not, in Kubernetes' words. */
extern const char name_dns1123_label_rule[], name_dns1123_subdomain_rule[],
    name_dns1035_label_rule[], name_qualified_rule[], name_label_value_rule[],
    name_path_segment_rule[];

/* What is wrong with the name of a container's port; NULL: nothing. */
const char *name_port_fault(const char *s);

#endif
