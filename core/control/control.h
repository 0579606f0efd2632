/* The control thread: workqueue, reconcilers, pod controller, supervisor, node status.
 *
 * It sees the world through the store's watches (an event is only a key), computes, and writes back
 * with optimistic concurrency. Level-based: running a reconciler twice changes nothing. */
#ifndef CORE_CONTROL_CONTROL_H
#define CORE_CONTROL_CONTROL_H

#include <jansson.h>

#include "core/auth.h"
#include "core/base/memory_need.h"
#include "core/base/metrics.h"
#include "core/config.h"
#include "core/control/traffic.h"
#include "core/decision_log.h"
#include "core/node/podlog.h"
#include "core/node/usage.h"
#include "core/series/series.h"
#include "core/store.h"

struct control;
struct preview;
struct running_table;

struct control_options {
    struct store *store; /* borrowed, like all here, for the control's life */
    struct podlog *podlog;
    struct usage *usage;           /* NULL: what runs is not measured */
    struct running_table *running; /* NULL: nobody looks at what runs */
    memory_need_fn *memory_need;   /* NULL: pods hold what they ask for, no more */
    void *memory_gauge;            /* its self */
    struct preview *preview;       /* is told of the world when it is there; may be NULL */
    struct traffic *traffic;
    struct metrics *metrics;        /* NULL: nothing is counted */
    struct metrics *api_metrics;    /* the API server's, for the series; NULL: none */
    struct decision_log *decisions; /* NULL: nobody keeps what the autoscalers decide */
    struct series *series;          /* is fed from here; NULL: no metrics are kept */
    const struct config *config;
    const char *gateway_url;  /* "http://127.0.0.1:8080": for status.url */
    const char *kube_address; /* "127.0.0.1:6443": the kubernetes Service */
    const char *ca_pem;       /* for kube-root-ca.crt */
    const struct auth *auth;  /* makes tokens for Secrets; NULL: they get none */
};

/* Makes the namespaces default, kube-system, kube-public, the Node, the ClusterServingRuntimes;
 * ends orphans of an earlier daemon; starts the thread. */
MUST_CHECK enum errc control_start(const struct control_options *opt, struct control **ret_c,
                                   struct error *err);
/* Drains and ends all replicas, joins the thread. */
void control_stop(struct control *c);
DEFINE_AUTO(control, control_stop)

/* Admission for what controllers give meaning to. `object` may be defaulted in place; warnings (a
 * JSON array of strings) get one entry per field that is accepted but has no effect yet. Pure. */
MUST_CHECK enum errc control_admit(const char *group, const char *resource, json_t *object,
                                   const json_t *old, json_t *warnings, struct error *err);

#endif
