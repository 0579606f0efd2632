/* Configuration of `inferd serve`: one table of keys (type, default, bounds, help) drives the YAML
 * file, the command line and the documentation. Unknown keys are refused with their line. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/base/buf.h"

struct config {
    char *data_dir;
    char *kube_listen;                                  /* "127.0.0.1:6443" */
    char *gateway_listen;                               /* "127.0.0.1:8080"; "": not without TLS */
    char *gateway_tls_listen;                           /* "": not with TLS */
    char *gateway_tls_cert_file, *gateway_tls_key_file; /* "": a certificate of our own */
    char *gateway_api_key_secret;                       /* "": none; "NAMESPACE/NAME" */
    char *models_dir;                                   /* "": data_dir/models */
    char *hf_cache_dir;            /* "": $HF_HOME/hub or ~/.cache/huggingface/hub */
    char *model_store_dir;         /* "": data_dir/model-store */
    int64_t model_store_bytes_max; /* 0: what the disk has */
    char *domain;                  /* "example.com": hosts are NAME.NAMESPACE.domain */
    char *node_name;               /* "": the host's name */
    char *log_level;
    char *tls_sans;               /* comma separated */
    char *token_auth_file;        /* "": none */
    char *service_account_issuer; /* "https://kubernetes.default.svc" */
    int64_t api_concurrency_max;  /* cost of the Kubernetes port's requests that run at once */
    int64_t api_queue_max;        /* of one user's that wait */
    int64_t api_watches_max;      /* of one user's watches */
    char *audit_policy_file;      /* "": no audit log */
    char *audit_log_file;         /* "": data_dir/audit/audit.log */
    int64_t audit_file_bytes_max;
    int64_t audit_files_max;
    int64_t audit_days_max;     /* 0: for ever */
    char *secret_keys_file;     /* "": data_dir/pki/keys/secrets.keys */
    char *encrypted_resources;  /* comma separated: "secrets" */
    char *fake_devices;         /* "": those of the machine */
    char *device_plugin_config; /* "": none */
    bool cpu_fallback;          /* pods that ask for GPUs may run on the CPU */
    int64_t drain_seconds;      /* terminationGracePeriod of replicas when the pod says nothing */
    int64_t gateway_queue_max;  /* requests held per service while replicas start */
    int64_t gateway_hold_seconds;
    int64_t gateway_hold_bytes_max;      /* bodies of the requests held per service */
    int64_t scale_to_zero_idle_seconds;  /* nobody asks for so long: no replica is needed */
    int64_t scale_to_zero_grace_seconds; /* the same in Knative's rule, behind its window */
    int64_t hpa_sync_seconds;            /* between two looks of a HorizontalPodAutoscaler */
    int64_t metrics_interval_seconds;    /* between two looks at what containers use */
    int64_t parked_models_bytes_max;     /* packed weights kept after their last replica */
    int64_t body_bytes_max;              /* gateway and API request bodies */
    int64_t log_file_bytes_max;          /* per container log file before it rotates */
    int64_t log_files_max;
    int64_t event_ttl_seconds;
    int64_t history_events_max;
    int64_t replica_open_files_max;
    bool host_processes;     /* pods of the image `host` run */
    char *host_pods_dir;     /* "": data_dir with "-pods" behind it */
    int64_t host_user_first; /* their users, and groups of the same numbers */
    int64_t host_user_last;
    int64_t serve_port_first; /* loopback ports of runtimes that are host processes */
    int64_t serve_port_last;
};

/* Defaults, then the file (path NULL: /etc/inferd/inferd.yaml when it exists). Errors: file, line,
 * key, value, bound. */
MUST_CHECK enum errc config_load(const char *path, struct config *ret_config, struct error *err);
/* One "--key value" of the command line over it; the spelling is the key's with dashes. */
MUST_CHECK enum errc config_set(struct config *c, const char *key, const char *value,
                                struct error *err);
void config_deinit(struct config *c);
void config_help(struct buf *out); /* one line a key: name, type, default, bounds, help */

#endif
