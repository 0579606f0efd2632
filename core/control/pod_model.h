/* The model of a pod that is not on this machine: wanted, waited for, told about. */
#ifndef CORE_CONTROL_POD_MODEL_H
#define CORE_CONTROL_POD_MODEL_H

#include "core/control/pod_record.h"

/* One attempt to start a container. */
struct pod_model {
    struct world *w;
    const json_t *pod;
    const struct pod_record *r;
    const json_t *container; /* its environment looked up */
    char *reference;         /* that was asked for; NULL: everything was on this machine */
    struct models_state state;
};
void pod_model_deinit(struct pod_model *p);

/* For replica_command_options: user is a struct pod_model. */
MUST_CHECK enum errc pod_model_find(void *user, const char *reference, char **ret_path,
                                    struct error *err);
/* The attempt failed: because of the model? Then the container waits for it, and that is told. */
bool pod_model_wait(const struct pod_model *p, struct pod_container *c);
/* The attempt succeeded; told if the container has waited. */
void pod_model_arrived(const struct pod_model *p, struct pod_container *c);

/* Something has happened to models: containers that wait for one are looked at. */
void pod_model_wake(struct world *w);
/* The pod is gone. */
void pod_model_release(struct world *w, const struct pod_record *r);

/* A service's model stays while the service is there; uri may be NULL, or nothing to download. */
void pod_model_keep_for_service(struct world *w, const json_t *isvc, const char *uri);
void pod_model_release_service(struct world *w, const char *ns, const char *name);

#define POD_MODEL_LOADING                                                                          \
    "ContainerCreating" /* the kubelet's words for waiting for what it pulls */
#define POD_MODEL_BACKOFF "ModelPullBackOff"

enum {
    POD_MODEL_LOOK_MS = 60 * 1000, /* although nobody said that anything happened */
    POD_MODEL_RETRY_MS_MIN = 1000,
};

#endif
