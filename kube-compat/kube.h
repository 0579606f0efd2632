/* The Kubernetes dialect: one HTTP handler for the API server's port.
 *
 * Kinds are data: CustomResourceDefinition documents embedded from kube-compat/kinds/. Discovery,
 * OpenAPI, validation, defaulting, pruning, Table output and patching come from them. */
#ifndef KUBE_COMPAT_KUBE_H
#define KUBE_COMPAT_KUBE_H

#include <jansson.h>

#include "core/charges.h"
#include "core/http.h"
#include "core/node/podlog.h"
#include "core/store.h"

struct audit_options;
struct kube;
struct usage;
struct running_table;

/* Called on create and update, after validation: see control_admit(). */
typedef enum errc kube_admit_fn(const char *group, const char *resource, json_t *object,
                                const json_t *old, json_t *warnings, struct error *err);

/* Admission that depends on other objects. `group` is the store's ("core"). NULL: there is none.
 * assign: on create and update, after admit; may fill the object in. charge: on create and update;
 * what must be committed together with the object (core/charges.h), judged anew after ERR_CONFLICT.
 */
typedef enum errc kube_assign_fn(struct store *store, const char *group, const char *resource,
                                 json_t *object, const json_t *old, struct error *err);
typedef enum errc kube_charge_fn(struct store *store, const char *group, const char *resource,
                                 const json_t *object, const json_t *old, struct charges *charges,
                                 struct error *err);

/* On a dry run of a create (old NULL) or an update that would succeed: adds warnings (strings) that
 * say what would become of it. Any thread; may take a second or two. */
typedef void kube_preview_fn(void *self, const char *group, const char *resource,
                             const json_t *object, const json_t *old, json_t *warnings);

enum { KUBE_CAUSE_BYTES_MAX = 400 };
/* May the pod be evicted? Fills charges; ERR_EXHAUSTED with ret_cause: a budget says no. */
typedef enum errc kube_evict_fn(struct store *store, const json_t *pod, int64_t wall_ms,
                                struct charges *charges, char ret_cause[KUBE_CAUSE_BYTES_MAX],
                                struct error *err);

enum {
    KUBE_CONCURRENCY_MAX = 48,
    KUBE_IDENTITY_SHARE = 4, /* one user runs at most a quarter of that */
    KUBE_QUEUE_MAX = 1024,
    KUBE_WATCHES_MAX = 3000, /* below STREAMS_MAX, so that somebody else has room */
};

struct decision_log; /* core/decision_log.h */

struct kube_options {
    struct store *store; /* borrowed, like all here, for the kube's life */
    struct podlog *podlog;
    struct usage *usage;            /* NULL: metrics.k8s.io is empty */
    struct running_table *running;  /* what runs here; NULL: nothing that anybody can reach */
    struct decision_log *decisions; /* of the autoscalers; NULL: there are none to show */
    const struct auth *auth;        /* for tokens; NULL: none are made or known */
    kube_admit_fn *admit;
    kube_assign_fn *assign;
    kube_charge_fn *charge;
    kube_evict_fn *evict;
    kube_preview_fn *preview; /* NULL: dry runs tell nothing */
    void *preview_self;
    const struct audit_options *audit; /* borrowed for kube_create(), its metrics are not read;
                                          NULL: no audit log */
    const char *server_address;        /* "127.0.0.1:6443", for discovery */
    /* Fairness; 0: the defaults below. */
    uint32_t concurrency_max; /* cost of all requests that run at once (cost.h) */
    uint32_t queue_max;       /* requests of one user that wait */
    uint32_t watches_max;     /* open watches and log streams of one user */
};

MUST_CHECK enum errc kube_create(const struct kube_options *opt, struct kube **ret_k,
                                 struct error *err);
/* Ends every watch and log stream. The HTTP server must have stopped: it calls kube_handle(). */
void kube_destroy(struct kube *k);
DEFINE_AUTO(kube, kube_destroy)

struct metrics *kube_metrics(struct kube *k); /* what /metrics shows; borrowed */

http_handler_fn kube_handle;        /* user: the struct kube */
http_error_body_fn kube_error_body; /* for http_server_options: a Status */
http_refused_fn kube_refused;       /* likewise: for the audit log; user: the struct kube */

#endif
