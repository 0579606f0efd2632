/* What the pod controller remembers of the pods of this node between two looks. All of it may be
 * lost: that costs time, and what ran is started again. */
#ifndef CORE_CONTROL_POD_RECORD_H
#define CORE_CONTROL_POD_RECORD_H

#include "core/control/pod_plan.h"
#include "core/control/world.h"
#include "core/node/replica_command.h"

/* Of a host container that serves an InferenceService: where it does, in its current run. */
struct pod_serving {
    uint16_t port;    /* 0: it serves nothing */
    char *address;    /* "127.0.0.1:PORT" */
    char *model_path; /* NULL: it has no storageUri */
};

/* A container that has, had or waits for a process. */
struct pod_container {
    char *name;
    enum pod_role role;
    size_t index;                   /* in spec.containers or spec.initContainers */
    char *home_dir;                 /* of a host container's run */
    struct replica_command command; /* of the current run */
    bool has_command;
    struct pod_serving serving;
    uint32_t restarts;                /* restartCount of the current or the next run */
    int64_t backoff_ms;               /* restart_decide()'s; -1: has not ended yet */
    int64_t start_at_ms;              /* monotonic: no start before */
    int64_t start_retry_ms;           /* after a start that did not come about */
    char *wait_reason, *wait_message; /* why it has not been started; NULL: nothing is in the way */
    bool served;                      /* the last run was ready before it ended */
    bool ended;                       /* for good, with this: */
    int exit_code;
    bool unhealthy_told;
    bool waits_for_model;
    uint32_t model_failures; /* of its model, that were told */
};

struct pod_record {
    struct pod_record *next;
    char *ns, *name, *uid;
    struct pod_container *containers; /* the init containers, then the main ones */
    size_t num_containers;
    bool host;              /* run by commands of this machine, not by `inferd engine` */
    uint32_t user;          /* of a host pod, once it has one */
    bool has_token;         /* its files are there */
    int64_t token_renew_ms; /* monotonic */
    bool initialized;       /* pod_plan_make()'s */
    int64_t
        evict_at_ms;    /* monotonic: a NoExecute taint is tolerated until then; 0: none is there */
    int64_t stop_at_ms; /* monotonic: SIGTERM when the drain delay is over; 0: not deleting */
    struct traffic_replica *replica; /* a reference; NULL: it has not served yet */
};

struct pod_table {
    struct pod_record *records;
};

struct pod_record *pod_record_find(const struct world *w, const char *uid); /* NULL: none */
/* The pod's record, made from what its status says when there is none. */
struct pod_record *pod_record_open(struct world *w, const json_t *pod);
/* Forgets the pod, and removes its logs. */
void pod_record_close(struct world *w, struct pod_record *r);

static inline struct replica_key pod_container_key(const struct pod_record *r,
                                                   const struct pod_container *c) {
    return (struct replica_key){r->uid, c->name};
}

/* The first of spec.containers, the one that serves if one does. Borrowed; NULL: there is none. */
struct pod_container *pod_record_first_main(const struct pod_record *r);

/* The container in the pod's spec. Borrowed. */
const json_t *pod_container_spec(const json_t *pod, const struct pod_container *c);
/* Between SIGTERM and SIGKILL, by the pod's spec or by who deletes it. */
int64_t pod_grace_ms(const json_t *pod);
/* Takes the message; reason NULL: it waits for nothing. */
void pod_container_set_wait(struct pod_container *c, const char *reason, char *message);
void pod_container_clear_command(struct pod_container *c);
void pod_container_clear_serving(struct pod_container *c);

#endif
