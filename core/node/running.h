/* The containers that run, as threads other than the control thread may see them: what it takes to
 * start a command beside a container's process, or to reach where it serves. The supervisor writes
 * into the table, any thread looks; a find gives a copy, which stays true as long as its pidfd is
 * not readable. */
#ifndef CORE_NODE_RUNNING_H
#define CORE_NODE_RUNNING_H

#include "core/node/supervisor.h"

/* One run of a container. */
struct running {
    char *ns, *pod, *uid, *container;
    uint32_t restart;
    int pidfd;           /* its own descriptor: readable when the container's process has ended */
    uint32_t user;       /* 0: the daemon's own */
    char *home_dir;      /* NULL: none */
    char *work_dir;      /* NULL: home_dir */
    char **env;          /* NULL-terminated "K=V" of the pod */
    char *uds_path;      /* where it serves HTTP; NULL: nowhere that is known */
    uint16_t serve_port; /* what the first port that it declares stands for; 0: for itself */
    int64_t open_files_max;
};
void running_deinit(struct running *r);

struct running_table;
struct running_table *running_table_create(void);
void running_table_destroy(struct running_table *t);
DEFINE_AUTO(running_table, running_table_destroy)

/* t may be NULL in both: nobody looks. put copies; pidfd is borrowed. */
void running_table_put(struct running_table *t, const struct replica_spec *spec, int pidfd);
void running_table_remove(struct running_table *t, const char *uid, const char *container);

/* The container of a pod, by the pod's uid. False: it does not run (or descriptors are out). */
MUST_CHECK bool running_table_find(struct running_table *t, const char *uid, const char *container,
                                   struct running *ret_running);

#endif
