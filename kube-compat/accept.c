/* Accept headers: clauses with parameters in any order. Only the order of the clauses counts;
 * q-values are read for q=0 alone, because no client ranks against its own order. */
#include "kube-compat/accept.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { VALUE_BYTES_MAX = 96 };

struct clause {
    char type[VALUE_BYTES_MAX], as[VALUE_BYTES_MAX], group[VALUE_BYTES_MAX],
        version[VALUE_BYTES_MAX], q[VALUE_BYTES_MAX];
};

/* Copies [from, to) without surrounding space; what does not fit matches nothing. */
static void copy(char out[VALUE_BYTES_MAX], const char *from, const char *to) {
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    size_t len = (size_t)(to - from);
    if (len >= VALUE_BYTES_MAX)
        len = 0;
    memcpy(out, from, len);
    out[len] = '\0';
}

static const char *until(const char *p, const char *end, char c) {
    const char *found = memchr(p, c, (size_t)(end - p));
    return found ? found : end;
}

static void read_clause(const char *p, const char *end, struct clause *c) {
    memset(c, 0, sizeof(*c));
    const char *stop = until(p, end, ';');
    copy(c->type, p, stop);
    while (stop < end) {
        p = stop + 1;
        stop = until(p, end, ';');
        const char *equals = until(p, stop, '=');
        char key[VALUE_BYTES_MAX];
        copy(key, p, equals);
        char *value = !strcmp(key, "as")  ? c->as
                      : !strcmp(key, "g") ? c->group
                      : !strcmp(key, "v") ? c->version
                      : !strcmp(key, "q") ? c->q
                                          : NULL;
        if (value && equals < stop)
            copy(value, equals + 1, stop);
    }
}

static enum accept_form form_of_as(const struct clause *c) {
    bool v1 = !strcmp(c->version, "v1") || !strcmp(c->version, "v1beta1");
    if (!strcmp(c->group, "meta.k8s.io") && v1) {
        if (!strcmp(c->as, "Table"))
            return ACCEPT_TABLE;
        if (!strcmp(c->as, "PartialObjectMetadata") || !strcmp(c->as, "PartialObjectMetadataList"))
            return ACCEPT_METADATA;
    }
    if (!strcmp(c->group, "apidiscovery.k8s.io") && !strcmp(c->as, "APIGroupDiscoveryList")) {
        if (!strcmp(c->version, "v2"))
            return ACCEPT_DISCOVERY_V2;
        if (!strcmp(c->version, "v2beta1"))
            return ACCEPT_DISCOVERY_BETA;
    }
    return ACCEPT_NONE;
}

static enum accept_form form_of(const struct clause *c) {
    bool unwanted = *c->q == '0' && !c->q[strspn(c->q, "0.")];
    if (unwanted)
        return ACCEPT_NONE;
    if (!strcasecmp(c->type, "application/json"))
        return *c->as ? form_of_as(c) : ACCEPT_JSON;
    if (!strcasecmp(c->type, "application/yaml") && !*c->as)
        return ACCEPT_YAML;
    if (!strcmp(c->type, "*/*") || !strcmp(c->type, "application/*"))
        return ACCEPT_JSON;
    if (!strncmp(c->type, "application/com.github.proto-openapi.spec.v2", 44))
        return ACCEPT_OPENAPI_PROTOBUF;
    return ACCEPT_NONE;
}

enum accept_form accept_choose(const char *header, unsigned allowed) {
    if (!header || !header[strspn(header, " \t")])
        return ACCEPT_JSON;
    const char *end = header + strlen(header);
    for (const char *p = header; p < end;) {
        const char *stop = until(p, end, ',');
        struct clause c;
        read_clause(p, stop, &c);
        enum accept_form form = form_of(&c);
        if (form & allowed)
            return form;
        p = stop + 1;
    }
    return ACCEPT_NONE;
}
