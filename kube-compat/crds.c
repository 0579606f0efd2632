/* Level-based, as a controller: every pass looks at all definitions and makes the store and the
 * table what they should be. One thread at a time makes a pass, without holding the lock; who comes
 * meanwhile waits for the next pass, which sees his change. The table itself is swapped under the
 * lock, which guards nothing but pointers.
 *
 * A definition whose resource is embedded in the program is stored and established, but the
 * embedded kind stays in force: KServe's own files apply without taking InferenceService away. */
#include "kube-compat/crds.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/object.h"
#include "kube-compat/crd.h"

enum { CLEANUP_PASSES_MAX = 64, CLEANUP_BATCH = 256, NAME_MESSAGE_BYTES = 160 };

struct crds {
    struct store *store;
    struct kinds *embedded;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t done;
    struct kinds *current;
    bool running;
    bool trim;             /* reading left free memory behind, which goes back at the next tick */
    uint64_t wanted, made; /* passes asked for; passes that began after as many had been */
    struct crd *crds[CRDS_MAX]; /* in force; only the running pass touches them */
    size_t num_crds;
};

/* What a pass knows about a definition. */
struct verdict {
    struct store_object *object;
    struct crd *crd; /* NULL: not to be served */
    bool accepted, embedded;
    const char *reason; /* why its names are not accepted */
    char message[NAME_MESSAGE_BYTES];
};

static bool is_embedded(const struct crds *c, const json_t *definition) {
    const char *group = object_str(definition, "spec.group");
    const char *plural = object_str(definition, "spec.names.plural");
    return group && plural && kinds_named(c->embedded, group, plural, NULL);
}

struct kinds *crds_kinds(struct crds *c) {
    pthread_mutex_lock(&c->lock);
    struct kinds *k = kinds_ref(c->current);
    pthread_mutex_unlock(&c->lock);
    return k;
}

static void list_definitions(struct crds *c, struct store_list *list) {
    struct object_key prefix;
    store_list(c->store,
               object_key(&prefix, "apiextensions.k8s.io", "customresourcedefinitions", NULL, NULL),
               list);
}

enum errc crds_admit(struct crds *c, const json_t *definition, const json_t *old, json_t *causes,
                     json_t *warnings, struct error *err) {
    crd_check(definition, old, causes);
    AUTO(crd) crd = NULL;
    enum errc code = crd_read(definition, kinds_types(c->embedded), causes, warnings, &crd, err);
    if (json_array_size(causes))
        return err_set(err, ERR_INVALID, "CustomResourceDefinition is invalid");
    if (code)
        return code;
    if (is_embedded(c, definition))
        json_array_append_new(
            warnings,
            json_sprintf("%s is built in: the definition is stored, and the built-in kind "
                         "stays in force",
                         object_name(definition) ? object_name(definition) : ""));
    AUTO_STORE_LIST all = {0};
    list_definitions(c, &all);
    if (!old && all.num_items >= CRDS_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %d CustomResourceDefinitions already",
                       CRDS_MAX);
    return OK;
}

/* Names. */

static bool same(const json_t *a, const json_t *b, const char *key) {
    const char *x = object_str(a, key), *y = object_str(b, key);
    return x && y && !strcmp(x, y);
}

static const char *shared_short_name(const json_t *a, const json_t *b) {
    const json_t *x = json_object_get(a, "shortNames"), *y = json_object_get(b, "shortNames");
    for (size_t i = 0; i < json_array_size(x); i++) {
        for (size_t j = 0; j < json_array_size(y); j++) {
            if (json_equal(json_array_get(x, i), json_array_get(y, j)))
                return json_string_value(json_array_get(x, i));
        }
    }
    return NULL;
}

/* Does a definition that was accepted before stand in the way of v? Then v says so. */
static bool conflicts(struct verdict *v, const json_t *other) {
    static const char *const keys[][2] = {{"plural", "PluralConflict"},
                                          {"singular", "SingularConflict"},
                                          {"kind", "KindConflict"},
                                          {"listKind", "ListKindConflict"}};
    const json_t *mine = object_at(v->object->json, "spec.names");
    const json_t *names = object_at(other, "spec.names");
    if (!same(v->object->json, other, "spec.group"))
        return false;
    const char *name = shared_short_name(mine, names);
    v->reason = name ? "ShortNamesConflict" : NULL;
    for (size_t i = 0; !v->reason && i < ARRAY_LEN(keys); i++) {
        if (!same(mine, names, keys[i][0]))
            continue;
        v->reason = keys[i][1];
        name = object_str(mine, keys[i][0]);
    }
    if (v->reason)
        snprintf(v->message, sizeof(v->message), "\"%.100s\" is already in use", name);
    return v->reason != NULL;
}

static void judge(struct crds *c, struct verdict *all, size_t num, size_t index) {
    struct verdict *v = &all[index];
    const char *group = object_str(v->object->json, "spec.group");
    const char *kind = object_str(v->object->json, "spec.names.kind");
    v->embedded = is_embedded(c, v->object->json);
    v->accepted = true;
    if (v->embedded)
        return;
    if (group && kind && kinds_named(c->embedded, group, NULL, kind)) {
        v->accepted = false;
        v->reason = "KindConflict";
        snprintf(v->message, sizeof(v->message), "\"%.100s\" is already in use by a built-in kind",
                 kind);
    }
    for (size_t i = 0; v->accepted && i < num; i++) {
        if (i != index && all[i].accepted && !all[i].embedded)
            v->accepted = !conflicts(v, all[i].object->json);
    }
}

static int compare_age(const void *a, const void *b) {
    const struct verdict *x = a, *y = b;
    const char *left = object_condition(x->object->json, "NamesAccepted");
    const char *right = object_condition(y->object->json, "NamesAccepted");
    bool first = left && !strcmp(left, "True"), second = right && !strcmp(right, "True");
    if (first != second)
        return first ? -1 : 1;
    return x->object->create_revision < y->object->create_revision ? -1 : 1;
}

/* Status. */

static void add_stored_version(json_t *definition) {
    json_t *stored = object_at(definition, "status.storedVersions"), *v;
    if (!json_is_array(stored)) {
        object_set(definition, "status.storedVersions", json_array());
        stored = object_at(definition, "status.storedVersions");
    }
    size_t i;
    json_array_foreach (object_at(definition, "spec.versions"), i, v) {
        const char *name = object_str(v, "name");
        bool there = !name || !object_bool(v, "storage", false);
        for (size_t j = 0; !there && j < json_array_size(stored); j++)
            there = !strcmp(name, json_string_value(json_array_get(stored, j)));
        if (!there)
            json_array_append_new(stored, json_string(name));
    }
}

/* Writes what became of v, where the store says something else. */
static void write_status(struct crds *c, const struct verdict *v) {
    int64_t now_ms = clock_wall_ms();
    const json_t *was = json_object_get(v->object->json, "status");
    json_t *o = json_copy(v->object->json); /* of which only the status is changed */
    json_object_set_new(o, "status", json_is_object(was) ? json_deep_copy(was) : json_object());
    json_t *names = v->accepted ? json_deep_copy(object_at(o, "spec.names"))
                                : json_pack("{s:s, s:s}", "kind", "", "plural", "");
    object_set(o, "status.acceptedNames", names);
    add_stored_version(o);
    bool established = v->accepted && (v->crd || v->embedded);
    object_set_condition(o, "NamesAccepted", v->accepted ? "True" : "False",
                         v->accepted ? "NoConflicts" : v->reason,
                         v->accepted ? "no conflicts found" : v->message, now_ms);
    object_set_condition(o, "Established", established ? "True" : "False",
                         established ? "InitialNamesAccepted" : "NotAccepted",
                         established ? "the initial names have been accepted"
                                     : "not all names are accepted",
                         now_ms);
    if (object_deleting(o))
        object_set_condition(o, "Terminating", "True", "InstanceDeletionInProgress",
                             "the objects of this kind are being deleted", now_ms);
    bool changed = !was || !json_equal(was, json_object_get(o, "status"));
    json_t *whole = changed ? json_deep_copy(o) : NULL;
    json_decref(o);
    if (!whole)
        return;
    struct error err = ERROR_INIT;
    struct log_quoted q;
    /* A conflict means another write, whose pass comes next. */
    enum errc code = store_put(c->store, v->object->key, whole, v->object->revision, NULL, &err);
    if (code && code != ERR_CONFLICT && code != ERR_NOT_FOUND)
        log_warn("status of a CustomResourceDefinition not written, retrying with the next change",
                 "name=%s err=%s", object_name(v->object->json), log_quote(&q, err.text));
}

/* Deletion. */

/* One batch. Gives the number of objects that are still there. */
static size_t delete_batch(struct crds *c, const char *prefix) {
    AUTO_STORE_LIST all = {0};
    store_list(c->store, prefix, &all);
    AUTO_FREE struct store_write *writes = mem_array(CLEANUP_BATCH, sizeof(*writes));
    size_t num = 0, held = 0;
    char text[CLOCK_RFC3339_BYTES];
    clock_rfc3339(clock_wall_ms(), text);
    for (size_t i = 0; i < all.num_items && num < CLEANUP_BATCH; i++) {
        const struct store_object *o = all.items[i];
        struct store_write w = {.key = o->key, .expect_revision = o->revision};
        if (json_array_size(object_at(o->json, "metadata.finalizers"))) {
            held++;
            if (object_deleting(o->json))
                continue;
            w.object = json_deep_copy(o->json);
            object_set(w.object, "metadata.deletionTimestamp", json_string(text));
            object_set(w.object, "metadata.deletionGracePeriodSeconds", json_integer(0));
        }
        writes[num++] = w;
    }
    struct error err = ERROR_INIT;
    if (num && store_commit(c->store, writes, num, NULL, &err))
        return all.num_items; /* somebody wrote meanwhile: the next batch sees it */
    return num ? all.num_items - (num - held) : all.num_items;
}

/* Deletes the objects of a definition that goes, and then it. True: it is gone. */
static bool clean_up(struct crds *c, const struct verdict *v) {
    const json_t *spec = json_object_get(v->object->json, "spec");
    const char *group = object_str(spec, "group"), *plural = object_str(spec, "names.plural");
    struct object_key prefix;
    size_t left = v->accepted && !v->embedded && group && plural;
    if (left)
        object_key(&prefix, group, plural, NULL, NULL);
    for (int pass = 0; left && pass < CLEANUP_PASSES_MAX; pass++)
        left = delete_batch(c, prefix.text);
    if (left)
        return false;
    struct error err = ERROR_INIT;
    json_t *o = json_deep_copy(v->object->json);
    json_t *finalizers = object_at(o, "metadata.finalizers");
    for (size_t i = json_array_size(finalizers); i-- > 0;) {
        if (!strcmp(json_string_value(json_array_get(finalizers, i)), CRD_FINALIZER))
            json_array_remove(finalizers, i);
    }
    bool last = !json_array_size(finalizers);
    enum errc code;
    if (last) {
        json_decref(o);
        code = store_delete(c->store, v->object->key, v->object->revision, NULL, &err);
    } else {
        code = store_put(c->store, v->object->key, o, v->object->revision, NULL, &err);
    }
    return last && !code;
}

/* Passes. */

/* Gives the definition read: the one in force when nothing changed. */
static struct crd *read_definition(struct crds *c, const json_t *definition) {
    for (size_t i = 0; i < c->num_crds; i++) {
        if (crd_is_of(c->crds[i], definition))
            return crd_ref(c->crds[i]);
    }
    struct error err = ERROR_INIT;
    struct log_quoted q;
    json_t *causes = json_array(), *warnings = json_array();
    struct crd *crd = NULL;
    if (crd_read(definition, kinds_types(c->embedded), causes, warnings, &crd, &err))
        log_warn("CustomResourceDefinition not served", "name=%s err=%s", object_name(definition),
                 log_quote(&q, err.text));
    json_decref(causes);
    json_decref(warnings);
    return crd;
}

static void publish(struct crds *c, struct verdict *all, size_t num) {
    struct crd *now[CRDS_MAX];
    size_t num_now = 0;
    for (size_t i = 0; i < num && num_now < CRDS_MAX; i++) {
        if (all[i].crd)
            now[num_now++] = crd_ref(all[i].crd);
    }
    struct kinds *kinds = kinds_extend(c->embedded, now, num_now);
    pthread_mutex_lock(&c->lock);
    struct kinds *was = c->current;
    c->current = kinds;
    pthread_mutex_unlock(&c->lock);
    kinds_unref(was);
    for (size_t i = 0; i < c->num_crds; i++)
        crd_unref(c->crds[i]);
    memcpy(c->crds, now, num_now * sizeof(now[0]));
    c->num_crds = num_now;
}

/* One pass. True: a definition is gone, which may free names for another. */
static bool make_pass(struct crds *c) {
    AUTO_STORE_LIST list = {0};
    list_definitions(c, &list);
    size_t num = list.num_items;
    AUTO_FREE struct verdict *all = mem_array(num + 1, sizeof(*all));
    for (size_t i = 0; i < num; i++)
        all[i].object = list.items[i];
    qsort(all, num, sizeof(*all), compare_age);
    for (size_t i = 0; i < num; i++) {
        judge(c, all, num, i);
        if (all[i].accepted && !all[i].embedded)
            all[i].crd = read_definition(c, all[i].object->json);
    }
    publish(c, all, num);
    bool gone = false;
    for (size_t i = 0; i < num; i++) {
        if (!object_deleting(all[i].object->json) || !clean_up(c, &all[i]))
            write_status(c, &all[i]);
        else
            gone = true;
        crd_unref(all[i].crd);
    }
    return gone;
}

void crds_changed(struct crds *c) {
    pthread_mutex_lock(&c->lock);
    uint64_t ticket = ++c->wanted;
    while (c->made < ticket) {
        if (c->running) {
            pthread_cond_wait(&c->done, &c->lock);
            continue;
        }
        c->running = true;
        uint64_t covers = c->wanted;
        pthread_mutex_unlock(&c->lock);
        while (make_pass(c))
            continue;
        pthread_mutex_lock(&c->lock);
        c->running = false;
        c->made = covers;
        c->trim = true;
        pthread_cond_broadcast(&c->done);
    }
    pthread_mutex_unlock(&c->lock);
}

void crds_tick(struct crds *c) {
    AUTO_STORE_LIST list = {0};
    list_definitions(c, &list);
    bool going = false;
    for (size_t i = 0; i < list.num_items; i++)
        going = going || object_deleting(list.items[i]->json);
    if (going)
        crds_changed(c);
    pthread_mutex_lock(&c->lock);
    bool trim = c->trim && !going;
    c->trim = c->trim && going;
    pthread_mutex_unlock(&c->lock);
    if (trim)
        malloc_trim(0);
}

enum errc crds_create(struct store *store, struct crds **ret_c, struct error *err) {
    AUTO(crds) c = mem_alloc(sizeof(*c));
    c->store = store;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->done, NULL);
    enum errc code = kinds_create(&c->embedded, err);
    if (code)
        return code;
    c->current = kinds_ref(c->embedded);
    crds_changed(c);
    *ret_c = steal(c);
    return OK;
}

void crds_destroy(struct crds *c) {
    if (!c)
        return;
    for (size_t i = 0; i < c->num_crds; i++)
        crd_unref(c->crds[i]);
    kinds_unref(c->current);
    kinds_unref(c->embedded);
    pthread_cond_destroy(&c->done);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
