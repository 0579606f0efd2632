/* Services. */
#include "kube-compat/validate_parts.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "core/object.h"
#include "kube-compat/names.h"

enum { PORT_MAX = 65535, NODE_PORT_MIN = 30000, NODE_PORT_MAX = 32767 };

static const char port_rule[] = "must be between 1 and 65535, inclusive";

static void check_target(const json_t *port, const char *at, json_t *causes) {
    const json_t *target = json_object_get(port, "targetPort");
    const char *name = json_string_value(target), *why = name ? name_port_fault(name) : NULL;
    char field[VALIDATE_FIELD_BYTES_MAX];
    snprintf(field, sizeof(field), "%s.targetPort", at);
    if (why)
        validate_invalid(causes, field, name, why);
    else if (json_is_integer(target) &&
             (json_integer_value(target) < 1 || json_integer_value(target) > PORT_MAX))
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: %lld: %s",
                  (long long)json_integer_value(target), port_rule);
}

/* seen: names and numbers of the ports before this one. */
static void check_port(const json_t *port, const char *at, bool alone, json_t *seen,
                       json_t *causes) {
    int64_t number = object_int(port, "port", 0), node = object_int(port, "nodePort", 0);
    const char *name = object_str(port, "name"), *protocol = object_str(port, "protocol");
    char field[VALIDATE_FIELD_BYTES_MAX], key[64];
    snprintf(field, sizeof(field), "%s.port", at);
    if (number < 1 || number > PORT_MAX)
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: %lld: %s", (long long)number,
                  port_rule);
    snprintf(field, sizeof(field), "%s.name", at);
    if (!alone && (!name || !*name))
        validate_required(causes, field, NULL);
    else if (name && *name && !name_is_dns1123_label(name))
        validate_invalid(causes, field, name, name_dns1123_label_rule);
    else if (name && *name && json_object_get(seen, name))
        cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%s\"", name);
    if (name && *name)
        json_object_set_new(seen, name, json_true());
    snprintf(key, sizeof(key), "/%lld/%.16s", (long long)number, protocol ? protocol : "TCP");
    if (json_object_get(seen, key))
        cause_add(causes, CAUSE_DUPLICATE, at,
                  "Duplicate value: {\"port\":%lld,\"protocol\":\"%.16s\"}", (long long)number,
                  protocol ? protocol : "TCP");
    json_object_set_new(seen, key, json_true());
    snprintf(field, sizeof(field), "%s.nodePort", at);
    if (node && (node < NODE_PORT_MIN || node > NODE_PORT_MAX))
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: %lld: provided port is not in the valid range. The range of "
                  "valid ports is %d-%d",
                  (long long)node, NODE_PORT_MIN, NODE_PORT_MAX);
    check_target(port, at, causes);
}

void validate_service(const json_t *service, json_t *causes) {
    const char *type = object_str(service, "spec.type");
    const char *ip = object_str(service, "spec.clusterIP");
    const char *host = object_str(service, "spec.externalName");
    const json_t *ports = object_at(service, "spec.ports");
    bool external = type && !strcmp(type, "ExternalName");
    bool headless = ip && !strcmp(ip, "None");
    unsigned char address[sizeof(struct in6_addr)];
    if (external && (!host || !*host))
        validate_required(causes, "spec.externalName", NULL);
    if (!external && !headless && !json_array_size(ports))
        validate_required(causes, "spec.ports", NULL);
    if (ip && *ip && !headless && inet_pton(AF_INET, ip, address) != 1 &&
        inet_pton(AF_INET6, ip, address) != 1)
        validate_invalid(causes, "spec.clusterIPs[0]", ip,
                         "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    validate_labels(object_at(service, "spec.selector"), "spec.selector", causes);
    json_t *seen = json_object();
    for (size_t i = 0; i < json_array_size(ports); i++) {
        char at[VALIDATE_FIELD_BYTES_MAX / 2];
        snprintf(at, sizeof(at), "spec.ports[%zu]", i);
        check_port(json_array_get(ports, i), at, json_array_size(ports) == 1, seen, causes);
    }
    json_decref(seen);
}
