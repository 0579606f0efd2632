/* The containers that run: a list under a lock, from which everybody takes copies.
 *
 * A container may end between the look and what is done with it. The copy has its own pidfd, so
 * whoever acts for the container can wait for its end beside everything else that he waits for. */
#include "core/node/running.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

struct entry {
    struct entry *next;
    struct running run;
};

struct running_table {
    pthread_mutex_t lock; /* over the list */
    struct entry *entries;
};

static char **copy_list(const char *const *list) {
    size_t num = 0;
    while (list && list[num])
        num++;
    char **copy = mem_array(num + 1, sizeof(copy[0]));
    for (size_t i = 0; i < num; i++)
        copy[i] = mem_strdup(list[i]);
    return copy;
}

void running_deinit(struct running *r) {
    for (char **e = r->env; e && *e; e++)
        free(*e);
    free(r->env);
    free(r->ns);
    free(r->pod);
    free(r->uid);
    free(r->container);
    free(r->home_dir);
    free(r->work_dir);
    free(r->uds_path);
    if (r->pidfd >= 0)
        close(r->pidfd);
    *r = (struct running){.pidfd = -1};
}

struct running_table *running_table_create(void) {
    struct running_table *t = mem_alloc(sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void entry_free(struct entry *e) {
    running_deinit(&e->run);
    free(e);
}

void running_table_destroy(struct running_table *t) {
    if (!t)
        return;
    for (struct entry *e = t->entries, *next; e; e = next) {
        next = e->next;
        entry_free(e);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void running_table_put(struct running_table *t, const struct replica_spec *spec, int pidfd) {
    if (!t)
        return;
    struct entry *e = mem_alloc(sizeof(*e));
    e->run = (struct running){
        .ns = mem_strdup(spec->ns),
        .pod = mem_strdup(spec->pod),
        .uid = mem_strdup(spec->uid),
        .container = mem_strdup(spec->container),
        .restart = spec->restart,
        .pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0),
        .user = spec->user,
        .home_dir = mem_strdup(spec->home_dir),
        .work_dir = mem_strdup(spec->work_dir),
        .env = copy_list(spec->env),
        .uds_path = mem_strdup(spec->uds_path),
        .serve_port = spec->serve_port,
        .open_files_max = spec->open_files_max,
    };
    pthread_mutex_lock(&t->lock);
    e->next = t->entries;
    t->entries = e;
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock: where the entry hangs; what it points at is NULL when there is none. */
static struct entry **find(struct running_table *t, const char *uid, const char *container) {
    struct entry **at = &t->entries;
    while (*at &&
           (strcmp((*at)->run.uid, uid) != 0 || strcmp((*at)->run.container, container) != 0))
        at = &(*at)->next;
    return at;
}

void running_table_remove(struct running_table *t, const char *uid, const char *container) {
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    struct entry **at = find(t, uid, container), *e = *at;
    if (e)
        *at = e->next;
    pthread_mutex_unlock(&t->lock);
    if (e)
        entry_free(e);
}

bool running_table_find(struct running_table *t, const char *uid, const char *container,
                        struct running *ret_running) {
    if (!t)
        return false;
    pthread_mutex_lock(&t->lock);
    const struct entry *e = *find(t, uid, container);
    int pidfd = e && e->run.pidfd >= 0 ? fcntl(e->run.pidfd, F_DUPFD_CLOEXEC, 0) : -1;
    if (pidfd >= 0) {
        *ret_running = e->run;
        ret_running->pidfd = pidfd;
        ret_running->ns = mem_strdup(e->run.ns);
        ret_running->pod = mem_strdup(e->run.pod);
        ret_running->uid = mem_strdup(e->run.uid);
        ret_running->container = mem_strdup(e->run.container);
        ret_running->home_dir = mem_strdup(e->run.home_dir);
        ret_running->work_dir = mem_strdup(e->run.work_dir);
        ret_running->env = copy_list((const char *const *)e->run.env);
        ret_running->uds_path = mem_strdup(e->run.uds_path);
    }
    pthread_mutex_unlock(&t->lock);
    return pidfd >= 0;
}
