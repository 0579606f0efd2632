/* Probes as Kubernetes writes them: one handler each, times in seconds, and defaults that the API
 * server fills in, and that are known here for objects that did not come through it. */
#include "core/control/pod_probes.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "core/object.h"

enum { PERIOD_SECONDS_DEFAULT = 10, FAILURES_DEFAULT = 3 };

static const char *const fields[HEALTH_PROBES] = {"startupProbe", "livenessProbe",
                                                  "readinessProbe"};

static void read_rule(const json_t *probe, struct health_rule *rule) {
    int64_t grace = object_int(probe, "terminationGracePeriodSeconds", -1);
    *rule = (struct health_rule){
        .asked = true,
        .initial_delay_ms = object_int(probe, "initialDelaySeconds", 0) * 1000,
        .period_ms = object_int(probe, "periodSeconds", PERIOD_SECONDS_DEFAULT) * 1000,
        .timeout_ms = object_int(probe, "timeoutSeconds", 1) * 1000,
        .success_threshold = (int)object_int(probe, "successThreshold", 1),
        .failure_threshold = (int)object_int(probe, "failureThreshold", FAILURES_DEFAULT),
        .grace_ms = grace < 0 ? -1 : grace * 1000,
    };
    if (rule->period_ms <= 0)
        rule->period_ms = PERIOD_SECONDS_DEFAULT * 1000;
    if (rule->timeout_ms <= 0)
        rule->timeout_ms = 1000;
}

/* A number, or the name of one of the container's ports; 0: neither. */
static int64_t find_port(const json_t *container, const json_t *port) {
    const char *name = json_string_value(port);
    size_t i;
    json_t *p;
    if (json_is_integer(port))
        return json_integer_value(port);
    json_array_foreach (json_object_get(container, "ports"), i, p) {
        const char *has = object_str(p, "name");
        if (name && has && !strcmp(has, name))
            return object_int(p, "containerPort", 0);
    }
    return name ? strtoll(name, NULL, 10) : 0;
}

static bool is_address(const char *host) {
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* handler: httpGet or tcpSocket; path: the probe's. */
static enum errc read_socket(const json_t *container, const json_t *handler, const char *path,
                             const char *address, struct question *q, struct error *err) {
    const char *host = object_str(handler, "host"), *scheme = object_str(handler, "scheme");
    int64_t port = find_port(container, json_object_get(handler, "port"));
    if (scheme && strcmp(scheme, "HTTP") != 0)
        return err_field(err, ERR_INVALID, path, "%s.httpGet.scheme: %s is not asked here; HTTP is",
                         path, scheme);
    if (host && !strcmp(host, "localhost"))
        host = "127.0.0.1";
    if (host && *host && !is_address(host))
        return err_field(err, ERR_INVALID, path,
                         "%s.host: \"%.253s\" is not an IP address: no names are looked up for "
                         "probes",
                         path, host);
    if (port < 1 || port > 65535)
        return err_field(err, ERR_INVALID, path, "%s.port: no port of the container", path);
    q->host = mem_strdup(host && *host ? host : address);
    q->port = (uint16_t)port;
    return OK;
}

static void read_headers(const json_t *handler, struct question *q) {
    const json_t *list = json_object_get(handler, "httpHeaders");
    size_t i;
    json_t *header;
    q->headers = mem_array(json_array_size(list) + 1, sizeof(q->headers[0]));
    json_array_foreach (list, i, header) {
        const char *name = object_str(header, "name"), *value = object_str(header, "value");
        q->headers[i] = mem_printf("%s: %s", name ? name : "", value ? value : "");
        q->headers[i][strcspn(q->headers[i], "\r\n")] = '\0'; /* one line each */
    }
}

static void read_command(const json_t *command, struct question *q) {
    size_t i;
    json_t *word;
    q->argv = mem_array(json_array_size(command) + 1, sizeof(q->argv[0]));
    json_array_foreach (command, i, word)
        q->argv[i] = mem_strdup(json_is_string(word) ? json_string_value(word) : "");
}

static enum errc read_question(const json_t *container, const json_t *probe, const char *path,
                               const char *address, struct question *q, struct error *err) {
    const json_t *sleep = json_object_get(probe, "sleep"); /* of hooks */
    const json_t *command = object_at(probe, "exec.command");
    const json_t *http = json_object_get(probe, "httpGet");
    const json_t *tcp = json_object_get(probe, "tcpSocket");
    const char *url = object_str(http, "path");
    if (json_object_get(probe, "grpc"))
        return err_field(err, ERR_INVALID, path,
                         "%s.grpc: not asked here; exec, httpGet and tcpSocket are", path);
    if (json_array_size(command)) {
        q->way = QUESTION_EXEC;
        read_command(command, q);
        return OK;
    }
    if (sleep) {
        q->way = QUESTION_SLEEP;
        q->sleep_ms = object_int(sleep, "seconds", 0) * 1000;
        return OK;
    }
    if (!http && !tcp)
        return err_field(err, ERR_INVALID, path, "%s: Required value: must specify a handler type",
                         path);
    q->way = http ? QUESTION_HTTP : QUESTION_TCP;
    if (read_socket(container, http ? http : tcp, path, address, q, err))
        return err->code;
    if (!http)
        return OK;
    q->path = mem_strdup(url && *url ? url : "/");
    q->path[strcspn(q->path, " \r\n")] = '\0';
    read_headers(http, q);
    return OK;
}

static enum errc read_hooks(const json_t *container, const char *path, const char *address,
                            struct probes *p, bool *any, struct error *err) {
    static const char *const names[HOOKS] = {"postStart", "preStop"};
    for (int i = 0; i < HOOKS; i++) {
        const json_t *hook = json_object_get(json_object_get(container, "lifecycle"), names[i]);
        AUTO_FREE char *at = mem_printf("%s.lifecycle.%s", path, names[i]);
        if (!json_is_object(hook))
            continue;
        *any = true;
        if (json_object_get(hook, "tcpSocket"))
            return err_field(err, ERR_INVALID, at, "%s.tcpSocket: a hook cannot be a connection",
                             at);
        if (read_question(container, hook, at, address, &p->hooks[i], err))
            return err->code;
    }
    return OK;
}

enum errc pod_probes_read(const json_t *container, const char *path, const char *address,
                          struct probes *ret_probes, bool *ret_any, struct error *err) {
    struct probes p = {0};
    bool any = false;
    for (int i = 0; i < HEALTH_PROBES; i++) {
        const json_t *probe = json_object_get(container, fields[i]);
        AUTO_FREE char *at = mem_printf("%s.%s", path, fields[i]);
        if (!json_is_object(probe))
            continue;
        any = true;
        read_rule(probe, &p.rules[i]);
        if (read_question(container, probe, at, address, &p.questions[i], err)) {
            probes_deinit(&p);
            return err->code;
        }
    }
    if (read_hooks(container, path, address, &p, &any, err)) {
        probes_deinit(&p);
        return err->code;
    }
    *ret_probes = p;
    *ret_any = any;
    return OK;
}

void pod_probes_warn(const json_t *container, const char *path, json_t *warnings) {
    struct error err = ERROR_INIT;
    struct probes p;
    bool any;
    if (pod_probes_read(container, path, "127.0.0.1", &p, &any, &err))
        json_array_append_new(warnings, object_text(err.text));
    else
        probes_deinit(&p);
}
