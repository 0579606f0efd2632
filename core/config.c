/* Configuration: one table of keys drives the YAML file, the command line and the help text.
 *
 * A key is its camelCase spelling in the file (as Kubernetes writes its own configuration) and the
 * same words with dashes on the command line: kubeListen, --kube-listen. */
#include "core/config.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/yaml.h"

static const char DEFAULT_PATH[] = "/etc/inferd/inferd.yaml";

enum { CONFIG_FILE_BYTES_MAX = 1 << 20 };

enum key_type { KEY_STRING, KEY_BOOL, KEY_INT };

struct key {
    const char *name;
    enum key_type type;
    size_t offset; /* into struct config */
    const char *string_default;
    int64_t int_default, min, max;
    const char *help;
};

#define STRING(field, name, value, help)                                                           \
    { name, KEY_STRING, offsetof(struct config, field), value, 0, 0, 0, help }
#define BOOL(field, name, value, help)                                                             \
    { name, KEY_BOOL, offsetof(struct config, field), NULL, value, 0, 1, help }
#define INT(field, name, value, min, max, help)                                                    \
    { name, KEY_INT, offsetof(struct config, field), NULL, value, min, max, help }

static const struct key keys[] = {
    STRING(data_dir, "dataDir", "/var/lib/inferd", "state, certificates, models, logs"),
    STRING(kube_listen, "kubeListen", "127.0.0.1:6443", "Kubernetes API (TLS)"),
    STRING(gateway_listen, "gatewayListen", "127.0.0.1:8080",
           "inference endpoint (HTTP); empty: only with TLS"),
    STRING(gateway_tls_listen, "gatewayTlsListen", "", "inference endpoint (HTTPS); empty: none"),
    STRING(gateway_tls_cert_file, "gatewayTlsCertFile", "",
           "its certificate and chain, PEM, read again when changed; empty: one of our own CA"),
    STRING(gateway_tls_key_file, "gatewayTlsKeyFile", "", "the key of that certificate, PEM"),
    STRING(gateway_api_key_secret, "gatewayApiKeySecret", "",
           "NAMESPACE/NAME of a Secret: API keys of services that name none; empty: they ask none"),
    STRING(models_dir, "modelsDir", "", "folder of models; empty: dataDir/models"),
    STRING(hf_cache_dir, "hfCacheDir", "", "Hugging Face hub cache; empty: its usual place"),
    STRING(model_store_dir, "modelStoreDir", "",
           "downloaded and added models, by content; empty: dataDir/model-store"),
    INT(model_store_bytes_max, "modelStoreBytesMax", 0, 0, 1125899906842624,
        "most bytes of it; models that nothing refers to go first; 0: what the disk has"),
    STRING(domain, "domain", "example.com", "services answer on NAME.NAMESPACE.domain"),
    STRING(node_name, "nodeName", "", "name of the Node; empty: the host's name"),
    STRING(log_level, "logLevel", "info", "debug, info, warn or error"),
    STRING(tls_sans, "tlsSans", "", "further names and addresses of the certificate, by comma"),
    STRING(token_auth_file, "tokenAuthFile", "",
           "further static tokens, a line each: token,user,uid,\"group1,group2\"; read at start"),
    STRING(service_account_issuer, "serviceAccountIssuer", "https://kubernetes.default.svc",
           "issuer and audience of ServiceAccount tokens"),
    INT(api_concurrency_max, "apiConcurrencyMax", 128, 1, 100000,
        "Kubernetes API: cost of requests that run at once; a user's share is a quarter"),
    INT(api_queue_max, "apiQueueMax", 1024, 1, 100000,
        "Kubernetes API: requests of one user that wait; more are answered 429"),
    INT(api_watches_max, "apiWatchesMax", 3000, 1, 4096,
        "Kubernetes API: open watches of one user; more are answered 429"),
    STRING(audit_policy_file, "auditPolicyFile", "",
           "audit.k8s.io/v1 Policy that turns the audit log on; read at start"),
    STRING(audit_log_file, "auditLogFile", "", "audit log; empty: dataDir/audit/audit.log"),
    INT(audit_file_bytes_max, "auditFileBytesMax", 104857600, 4096, 10737418240,
        "the audit log rotates at this size"),
    INT(audit_files_max, "auditFilesMax", 10, 1, 1000, "rotated audit logs kept"),
    INT(audit_days_max, "auditDaysMax", 0, 0, 3650,
        "rotated audit logs older than this go; 0: never for their age"),
    STRING(secret_keys_file, "secretKeysFile", "",
           "keys that encrypt Secrets on disk; empty: dataDir/pki/keys/secrets.keys"),
    STRING(encrypted_resources, "encryptedResources", "secrets",
           "resources encrypted on disk, by comma: secrets,leases.coordination.k8s.io"),
    STRING(fake_devices, "fakeDevices", "",
           "file that describes GPUs to try things with; what runs on them runs on the CPU"),
    STRING(device_plugin_config, "devicePluginConfig", "",
           "time-slicing of GPUs, in a configuration file of NVIDIA's device plugin"),
    BOOL(cpu_fallback, "cpuFallback", 0, "pods that ask for GPUs may run on the CPU"),
    INT(drain_seconds, "drainSeconds", 30, 0, 3600, "grace of a replica that is stopped"),
    INT(gateway_queue_max, "gatewayQueueMax", 256, 0, 100000,
        "requests held per service while replicas start"),
    INT(gateway_hold_seconds, "gatewayHoldSeconds", 60, 0, 3600, "longest hold of a request"),
    INT(gateway_hold_bytes_max, "gatewayHoldBytesMax", 67108864, 0, 17179869184,
        "bodies of the requests held per service"),
    INT(scale_to_zero_idle_seconds, "scaleToZeroIdleSeconds", 300, 1, 86400,
        "a service with minReplicas 0 keeps its last replica so long after the last request"),
    INT(scale_to_zero_grace_seconds, "scaleToZeroGraceSeconds", 30, 0, 86400,
        "the same behind the window of a service with Knative's annotations"),
    INT(hpa_sync_seconds, "hpaSyncSeconds", 15, 1, 3600,
        "how often a HorizontalPodAutoscaler looks at its target"),
    INT(metrics_interval_seconds, "metricsIntervalSeconds", 15, 1, 3600,
        "how often what containers use is measured"),
    INT(parked_models_bytes_max, "parkedModelsBytesMax", 0, 0, 17592186044416,
        "memory for weights that no replica uses, so that waking costs no load; 0: none is kept"),
    INT(body_bytes_max, "bodyBytesMax", 16777216, 1024, 1073741824, "request body at the gateway"),
    INT(log_file_bytes_max, "logFileBytesMax", 10485760, 4096, 1073741824,
        "a container's log file rotates at this size"),
    INT(log_files_max, "logFilesMax", 5, 1, 100, "log files kept per container run"),
    INT(event_ttl_seconds, "eventTtlSeconds", 3600, 60, 2592000, "Events are dropped after this"),
    INT(history_events_max, "historyEventsMax", 10000, 100, 1000000,
        "changes kept for watches that resume"),
    INT(replica_open_files_max, "replicaOpenFilesMax", 4096, 64, 1048576,
        "open files of a replica"),
    BOOL(host_processes, "hostProcesses", 1, "pods of the image `host` run processes here"),
    STRING(host_pods_dir, "hostPodsDir", "",
           "working folders of host pods, apart from the data; empty: dataDir with -pods added"),
    INT(host_user_first, "hostUserFirst", 70000, 1000, 4294967290,
        "first of the user ids that host pods run under; nobody else may use them"),
    INT(host_user_last, "hostUserLast", 79999, 1000, 4294967290, "last of them"),
    INT(serve_port_first, "servePortFirst", 20000, 1024, 65535,
        "first of the loopback ports on which runtimes that are host processes serve"),
    INT(serve_port_last, "servePortLast", 20999, 1024, 65535, "last of them"),
};

static void *slot(struct config *c, const struct key *k) {
    return (char *)c + k->offset;
}

static void set_defaults(struct config *c) {
    *c = (struct config){0};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const struct key *k = &keys[i];
        if (k->type == KEY_STRING)
            *(char **)slot(c, k) = mem_strdup(k->string_default);
        else if (k->type == KEY_BOOL)
            *(bool *)slot(c, k) = k->int_default;
        else
            *(int64_t *)slot(c, k) = k->int_default;
    }
}

void config_deinit(struct config *c) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i].type == KEY_STRING)
            free(*(char **)slot(c, &keys[i]));
    }
    *c = (struct config){0};
}

static enum errc set_int(struct config *c, const struct key *k, int64_t v, struct error *err) {
    if (v < k->min || v > k->max)
        return err_field(err, ERR_INVALID, k->name, "%s: %lld is not within %lld..%lld", k->name,
                         (long long)v, (long long)k->min, (long long)k->max);
    *(int64_t *)slot(c, k) = v;
    return OK;
}

static enum errc set_string(struct config *c, const struct key *k, const char *v,
                            struct error *err) {
    if (strlen(v) > 4096)
        return err_field(err, ERR_INVALID, k->name, "%s: longer than 4096 bytes", k->name);
    char **s = slot(c, k);
    free(*s);
    *s = mem_strdup(v);
    return OK;
}

static enum errc set_json(struct config *c, const struct key *k, const json_t *v,
                          struct error *err) {
    if (k->type == KEY_STRING && json_is_string(v))
        return set_string(c, k, json_string_value(v), err);
    if (k->type == KEY_BOOL && json_is_boolean(v)) {
        *(bool *)slot(c, k) = json_is_true(v);
        return OK;
    }
    if (k->type == KEY_INT && json_is_integer(v))
        return set_int(c, k, json_integer_value(v), err);
    static const char *const wants[] = {"a string", "true or false", "a whole number"};
    AUTO_FREE char *text = json_dumps(v, JSON_ENCODE_ANY);
    return err_field(err, ERR_INVALID, k->name, "%s: %.80s is not %s", k->name, text,
                     wants[k->type]);
}

/* "kubeListen" also answers to "kube-listen". */
static bool same_key(const char *name, const char *spelled) {
    for (; *name && *spelled; name++, spelled++) {
        if (*spelled == '-') {
            spelled++;
            if (toupper((unsigned char)*spelled) != *name)
                return false;
        } else if (*spelled != *name) {
            return false;
        }
    }
    return !*name && !*spelled;
}

static const struct key *find_key(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (same_key(keys[i].name, name))
            return &keys[i];
    }
    return NULL;
}

enum errc config_set(struct config *c, const char *key, const char *value, struct error *err) {
    const struct key *k = find_key(key);
    if (!k)
        return err_field(err, ERR_INVALID, key, "unknown option --%s", key);
    if (k->type == KEY_STRING)
        return set_string(c, k, value, err);
    if (k->type == KEY_BOOL) {
        bool yes = !strcmp(value, "true");
        if (!yes && strcmp(value, "false") != 0)
            return err_field(err, ERR_INVALID, key, "--%s: \"%s\" is not true or false", key,
                             value);
        *(bool *)slot(c, k) = yes;
        return OK;
    }
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (errno || end == value || *end)
        return err_field(err, ERR_INVALID, key, "--%s: \"%s\" is not a whole number", key, value);
    return set_int(c, k, v, err);
}

static enum errc apply_document(struct config *c, const char *path, const char *text, size_t len,
                                const json_t *doc, struct error *err) {
    const char *name;
    json_t *value;
    if (json_is_null(doc))
        return OK;
    if (!json_is_object(doc))
        return err_set(err, ERR_INVALID, "%s: not a mapping of keys to values", path);
    json_object_foreach ((json_t *)doc, name, value) {
        const struct key *k = find_key(name);
        enum errc rc = k && !strchr(name, '-')
                           ? set_json(c, k, value, err)
                           : err_field(err, ERR_INVALID, name, "unknown key \"%s\"", name);
        if (rc)
            return err_wrap(err, "%s: line %d", path, yaml_key_line(text, len, name));
    }
    return OK;
}

static enum errc read_file(const char *path, struct buf *text, struct error *err) {
    FILE *f = fopen(path, "re");
    if (!f)
        return err_errno(err, "open %s", path);
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0 && text->len <= CONFIG_FILE_BYTES_MAX)
        buf_append(text, chunk, n);
    bool bad = ferror(f);
    fclose(f);
    if (bad)
        return err_errno(err, "read %s", path);
    if (text->len > CONFIG_FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%s: larger than %d bytes", path, CONFIG_FILE_BYTES_MAX);
    return OK;
}

enum errc config_load(const char *path, struct config *ret_config, struct error *err) {
    struct config c;
    set_defaults(&c);
    enum errc rc = OK;
    if (path || !access(DEFAULT_PATH, F_OK)) {
        const char *file = path ? path : DEFAULT_PATH;
        AUTO_BUF text = BUF_INIT;
        json_t *doc = NULL;
        rc = read_file(file, &text, err);
        if (!rc && yaml_parse(text.data ? text.data : "", text.len, &doc, err))
            rc = err_wrap(err, "%s", file);
        if (!rc)
            rc = apply_document(&c, file, text.data ? text.data : "", text.len, doc, err);
        json_decref(doc);
    }
    if (rc)
        config_deinit(&c);
    else
        *ret_config = c;
    return rc;
}

void config_help(struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const struct key *k = &keys[i];
        char bounds[96] = "";
        if (k->type == KEY_INT)
            snprintf(bounds, sizeof(bounds), " [%lld; %lld..%lld]", (long long)k->int_default,
                     (long long)k->min, (long long)k->max);
        else if (k->type == KEY_BOOL)
            snprintf(bounds, sizeof(bounds), " [%s]", k->int_default ? "true" : "false");
        else if (*k->string_default)
            snprintf(bounds, sizeof(bounds), " [%s]", k->string_default);
        buf_printf(out, "  %-22s %s%s\n", k->name, k->help, bounds);
    }
}
