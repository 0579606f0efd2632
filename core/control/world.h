/* What every reconciler sees: the store, the clock of this round, the queue of keys, and the few
 * verbs with which controllers read and write objects. Owned by the control thread. */
#ifndef CORE_CONTROL_WORLD_H
#define CORE_CONTROL_WORLD_H

#include <jansson.h>

#include "core/auth.h"
#include "core/base/memory_need.h"
#include "core/base/metrics.h"
#include "core/config.h"
#include "core/control/traffic.h"
#include "core/control/workqueue.h"
#include "core/model/models.h"
#include "core/node/podlog.h"
#include "core/node/supervisor.h"
#include "core/node/usage.h"
#include "core/object.h"
#include "core/series/series.h"
#include "core/store.h"

enum kind {
    KIND_NAMESPACE,
    KIND_NODE,
    KIND_POD,
    KIND_EVENT,
    KIND_CONFIG_MAP,
    KIND_SECRET,
    KIND_SERVICE,
    KIND_SERVICE_ACCOUNT,
    KIND_CLUSTER_ROLE,
    KIND_RESOURCE_QUOTA,
    KIND_ENDPOINTS,
    KIND_ENDPOINT_SLICE,
    KIND_POD_DISRUPTION_BUDGET,
    KIND_PRIORITY_CLASS,
    KIND_LEASE,
    KIND_HORIZONTAL_POD_AUTOSCALER,
    KIND_SCALED_OBJECT,
    KIND_TRIGGER_AUTHENTICATION,
    KIND_CLUSTER_TRIGGER_AUTHENTICATION,
    KIND_REPLICA_SET,
    KIND_DEPLOYMENT,
    KIND_INFERENCE_SERVICE,
    KIND_SERVING_RUNTIME,
    KIND_CLUSTER_SERVING_RUNTIME,
    KIND_COUNT
};

struct kind_row {
    const char *group, *version, *resource, *kind;
    bool has_generation;
};
const struct kind_row *kind_row(enum kind kind);
/* By kind name and group of an apiVersion ("apps/v1"); KIND_COUNT: not one of ours. */
enum kind kind_find(const char *api_version, const char *name);
/* By the first two parts of a store key. */
enum kind kind_of_key(const char *store_key);

struct event_buffer;         /* core/control/events.c */
struct pod_table;            /* core/control/pod.c */
struct autoscale_table;      /* core/control/autoscale.c */
struct pod_autoscaler_table; /* core/control/pod_autoscaler.c */
struct device_reader;        /* core/node/device_reader.h */
struct preview;              /* core/control/preview.h */
struct http_getter;          /* core/control/http_get.h */
struct figure_reader;        /* core/control/replica_figures.h */
struct decision_log;         /* core/decision_log.h */

struct world {
    struct store *store; /* borrowed, like everything up to `program` */
    const struct config *config;
    struct podlog *podlog; /* may be NULL: no logs to remove or read */
    struct traffic *traffic;
    struct metrics *metrics;        /* may be NULL: nothing is counted */
    struct decision_log *decisions; /* may be NULL: nobody keeps them */
    struct figure_reader *figures;  /* may be NULL: replicas are not asked for figures */
    struct series *series;          /* may be NULL: no metrics are kept */
    struct http_getter *getter;     /* may be NULL: nobody else can be asked */
    struct replica_driver driver;
    struct usage *usage;                 /* may be NULL: what containers use is not measured */
    struct model_driver models;          /* self NULL: models are not downloaded */
    struct device_reader *device_reader; /* may be NULL: the machine has no devices */
    memory_need_fn *memory_need;         /* NULL: what replicas take is not known */
    void *memory_gauge;                  /* its self */
    struct preview *preview;             /* of dry runs; may be NULL */
    const char *gateway_url, *kube_address, *ca_pem;
    const struct auth *auth; /* NULL: Secrets get no tokens */
    const char *node_name, *node_ip;
    const char *program; /* path of inferd */
    const char *run_dir, *models_dir, *hf_cache_dir;

    int64_t wall_ms; /* of this round: what is written into objects */
    int64_t mono_ms; /* of this round: for delays */
    struct workqueue *queue;
    struct event_buffer *events;
    struct pod_table *pods;
    struct autoscale_table *autoscale;
    struct scaled_object_table *scaled_objects;
    struct pod_autoscaler_table *pod_autoscalers;
    bool traffic_stale;      /* the traffic table is to be built anew at the end of the round */
    char *traffic_published; /* what the published table says, as text; NULL: nothing yet */
};

/* Reading. world_get gives a reference, or NULL when there is no such object. */
struct store_object *world_get(struct world *w, enum kind kind, const char *ns, const char *name);
/* ns NULL: in all namespaces. */
void world_list(struct world *w, enum kind kind, const char *ns, struct store_list *ret_list);

/* Writing. All take `object`; ret_o may be NULL. */

/* Completes apiVersion, kind, uid, creationTimestamp, generation, and what admission.h assigns.
 * ERR_EXISTS; ERR_FORBIDDEN: the namespace is terminating or gone, or admission refuses it. */
MUST_CHECK enum errc world_create(struct world *w, enum kind kind, json_t *object,
                                  struct store_object **ret_o, struct error *err);
/* Replaces what was read as `old`; a changed spec makes a new generation; nothing changed: no
 * write. ERR_CONFLICT: somebody wrote in between. */
MUST_CHECK enum errc world_update(struct world *w, const struct store_object *old, json_t *object,
                                  struct store_object **ret_o, struct error *err);
/* As the API server deletes: an object with finalizers, and a pod that runs, is marked and goes
 * when that is done; anything else goes at once. Being gone already is success. */
MUST_CHECK enum errc world_delete(struct world *w, const struct store_object *o, struct error *err);
/* Removes it from the store, whatever it says. */
MUST_CHECK enum errc world_remove(struct world *w, const struct store_object *o, struct error *err);

/* Queueing: the reconciler of a kind looks at an object, now or after a while. */
void world_enqueue(struct world *w, enum kind kind, const char *ns, const char *name);
void world_enqueue_after(struct world *w, enum kind kind, const char *ns, const char *name,
                         int64_t delay_ms);

/* The now of this round as Kubernetes writes it, into a fresh JSON string. */
json_t *world_timestamp(const struct world *w);

#endif
