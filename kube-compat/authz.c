/* The loop around the decider (rbac.c): keeps its index in step with the store.
 *
 * The index is an immutable snapshot, shared by reference; the lock guards the few instructions
 * that take a reference. What makes it old is a commit to any RBAC object: the store thread then
 * moves `wanted`, before it acknowledges that commit. Whoever asks next sees that the index is
 * behind and builds it anew from the store, outside of the lock, while those who come meanwhile
 * wait for him. So no answer rests on a binding that is gone, and there is no thread that could
 * lag. A build reads all roles and bindings, some microseconds for each: they change seldom and are
 * asked about with every request. See docs/adr/0010. */
#include "kube-compat/authz.h"

#include <pthread.h>
#include <stdio.h>

struct authz {
    struct store *store;
    struct store_watch *watch;
    _Atomic uint64_t wanted; /* moved by every commit that concerns roles or bindings */
    pthread_mutex_t lock;    /* over all below */
    pthread_cond_t done;
    struct rbac *current;
    uint64_t made; /* `wanted` as it was before `current` was read */
    bool building;
};

static void note_change(void *user) {
    struct authz *z = user;
    z->wanted++;
}

/* Reads everything. */
static struct rbac *build(struct authz *z) {
    AUTO_STORE_LIST all = {0};
    store_list(z->store, RBAC_GROUP "/", &all);
    const json_t **objects = mem_array(all.num_items + 1, sizeof(*objects));
    for (size_t i = 0; i < all.num_items; i++)
        objects[i] = all.items[i]->json;
    struct rbac *r = rbac_create(objects, all.num_items);
    free((void *)objects);
    return r;
}

struct rbac *authz_rbac(struct authz *z) {
    uint64_t needed = z->wanted;
    pthread_mutex_lock(&z->lock);
    while (z->made < needed) {
        if (z->building) {
            pthread_cond_wait(&z->done, &z->lock);
            continue;
        }
        z->building = true;
        pthread_mutex_unlock(&z->lock);
        uint64_t covers = z->wanted;
        struct rbac *fresh = build(z);
        pthread_mutex_lock(&z->lock);
        struct rbac *was = z->current;
        z->current = fresh;
        z->made = covers;
        z->building = false;
        pthread_cond_broadcast(&z->done);
        pthread_mutex_unlock(&z->lock);
        rbac_unref(was);
        pthread_mutex_lock(&z->lock);
    }
    struct rbac *r = rbac_ref(z->current);
    pthread_mutex_unlock(&z->lock);
    return r;
}

enum errc authz_create(struct store *store, struct authz **ret_z, struct error *err) {
    AUTO(authz) z = mem_alloc(sizeof(*z));
    z->store = store;
    pthread_mutex_init(&z->lock, NULL);
    pthread_cond_init(&z->done, NULL);
    z->current = rbac_create(NULL, 0);
    z->wanted = 1; /* the store's objects have not been read yet */
    enum errc code = store_watch_open(store, RBAC_GROUP "/", store_revision(store), note_change, z,
                                      &z->watch, err);
    if (!code)
        *ret_z = steal(z);
    return code;
}

void authz_destroy(struct authz *z) {
    if (!z)
        return;
    store_watch_close(z->watch);
    rbac_unref(z->current);
    pthread_cond_destroy(&z->done);
    pthread_mutex_destroy(&z->lock);
    free(z);
}

/* Asking. */

struct rbac_subject authz_subject(const struct auth_identity *who, struct authz_groups *groups) {
    for (uint32_t i = 0; i < who->num_groups; i++)
        groups->names[i] = who->groups[i];
    return (struct rbac_subject){
        .user = who->name, .groups = groups->names, .num_groups = who->num_groups};
}

bool authz_decide_subject(struct authz *z, const struct rbac_subject *who,
                          const struct authz_attributes *a, struct buf *reason) {
    for (size_t i = 0; i < who->num_groups; i++) {
        if (!strcmp(who->groups[i], "system:masters"))
            return true;
    }
    AUTO(rbac) r = authz_rbac(z);
    return rbac_allows(r, who, a, reason);
}

bool authz_decide(struct authz *z, const struct auth_identity *who,
                  const struct authz_attributes *a, struct buf *reason) {
    struct authz_groups groups;
    if (!who || who->admin)
        return true;
    struct rbac_subject subject = authz_subject(who, &groups);
    return authz_decide_subject(z, &subject, a, reason);
}

bool authz_may(struct authz *z, const struct auth_identity *who, const struct authz_attributes *a) {
    return authz_decide(z, who, a, NULL);
}

bool authz_may_use_host_processes(struct authz *z, const struct auth_identity *who,
                                  const char *ns) {
    const struct authz_attributes a = {
        .verb = "use", .group = "inferd.io", .resource = "hostprocesses", .ns = ns};
    return authz_may(z, who, &a);
}

bool authz_is_public(const char *path) {
    static const char *const paths[] = {"/healthz", "/livez", "/readyz"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (!strcmp(path, paths[i]))
            return true;
    }
    return !strncmp(path, "/livez/", 7) || !strncmp(path, "/readyz/", 8);
}

/* Names come from clients, and browsers show messages: as the reference server has it. */
static void put_escaped(struct buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '&')
            buf_puts(out, "&amp;");
        else if (*text == '<')
            buf_puts(out, "&lt;");
        else if (*text == '>')
            buf_puts(out, "&gt;");
        else
            buf_putc(out, *text);
    }
}

static void describe(const struct auth_identity *who, const struct authz_attributes *a,
                     struct buf *out) {
    AUTO_BUF text = BUF_INIT;
    buf_printf(&text, "User \"%s\" cannot %s ", who->name, a->verb);
    if (!a->resource) {
        buf_printf(&text, "path \"%s\"", a->path);
    } else {
        buf_printf(&text, "resource \"%s%s%s\" in API group \"%s\"", a->resource,
                   a->subresource ? "/" : "", a->subresource ? a->subresource : "", a->group);
        if (a->ns)
            buf_printf(&text, " in the namespace \"%s\"", a->ns);
        else
            buf_puts(&text, " at the cluster scope");
    }
    put_escaped(out, text.data);
}

enum errc authz_check_why(struct authz *z, const struct auth_identity *who,
                          const struct authz_attributes *a, struct buf *reason, struct error *err) {
    if (authz_decide(z, who, a, reason))
        return OK;
    AUTO_BUF text = BUF_INIT;
    if (a->resource) {
        buf_printf(&text, "%s%s%s ", a->resource, *a->group ? "." : "", a->group);
        if (a->name)
            buf_printf(&text, "\"%s\" ", a->name);
        buf_puts(&text, "is ");
    }
    buf_puts(&text, "forbidden: ");
    describe(who, a, &text);
    if (reason->len)
        buf_printf(&text, ": %s", reason->data);
    return err_set(err, ERR_FORBIDDEN, "%s", text.data);
}

enum errc authz_check(struct authz *z, const struct auth_identity *who,
                      const struct authz_attributes *a, struct error *err) {
    AUTO_BUF reason = BUF_INIT;
    return authz_check_why(z, who, a, &reason, err);
}
