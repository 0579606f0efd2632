/* The garbage collector looks at everything at once: with all objects in memory that is a few
 * milliseconds, and a collector that keeps no graph cannot have a wrong one.
 *
 *   an owner is   solid     it exists and is not being deleted in the foreground
 *                 waiting   it exists, is deleted in the foreground, and waits for its dependents
 *                 absent    no object has that uid
 *
 * An object with a solid owner stays (and loses its references to others). One whose owners are
 * absent is deleted; one that an owner waits for is deleted too, in the foreground when it has
 * dependents of its own. Finalizers: `foregroundDeletion` goes when no dependent blocks any more,
 * `orphan` when every dependent has lost its reference; an object that is being deleted and has no
 * finalizer left is removed. */
#include "core/control/gc.h"

#include "core/base/clock.h"
#include "core/control/events.h"

static const char FOREGROUND[] = "foregroundDeletion";
static const char ORPHAN[] = "orphan";

struct by_uid {
    const char *uid;
    const struct store_object *object;
};

struct graph {
    struct world *w;
    struct store_list all;
    struct by_uid *index; /* sorted by uid */
    size_t num_index;
};

static int compare_uid(const void *a, const void *b) {
    return strcmp(((const struct by_uid *)a)->uid, ((const struct by_uid *)b)->uid);
}

static void graph_init(struct graph *g, struct world *w) {
    g->w = w;
    store_list(w->store, "", &g->all);
    g->index = mem_array(g->all.num_items, sizeof(*g->index));
    for (size_t i = 0; i < g->all.num_items; i++) {
        const char *uid = object_uid(g->all.items[i]->json);
        if (uid)
            g->index[g->num_index++] = (struct by_uid){uid, g->all.items[i]};
    }
    qsort(g->index, g->num_index, sizeof(*g->index), compare_uid);
}

static void graph_deinit(struct graph *g) {
    store_list_deinit(&g->all);
    free(g->index);
}

/* An owner is of the same namespace or of none; one that lies elsewhere is as good as absent. */
static bool may_own(const json_t *owner, const json_t *o) {
    const char *ns = object_namespace(owner), *own = object_namespace(o);
    return !ns || !own || !strcmp(ns, own);
}

static const struct store_object *find_owner(const struct graph *g, const json_t *o,
                                             const json_t *ref) {
    struct by_uid want = {.uid = object_str(ref, "uid")};
    if (!want.uid)
        return NULL;
    const struct by_uid *found =
        bsearch(&want, g->index, g->num_index, sizeof(*g->index), compare_uid);
    return found && may_own(found->object->json, o) ? found->object : NULL;
}

static bool has_finalizer(const json_t *o, const char *finalizer) {
    size_t i;
    json_t *f;
    json_array_foreach (object_at(o, "metadata.finalizers"), i, f) {
        if (json_is_string(f) && !strcmp(json_string_value(f), finalizer))
            return true;
    }
    return false;
}

static bool waits_for_dependents(const json_t *owner) {
    return object_deleting(owner) && has_finalizer(owner, FOREGROUND);
}

static const json_t *reference_to(const json_t *o, const json_t *owner) {
    const char *uid = object_uid(owner);
    size_t i;
    json_t *ref;
    json_array_foreach (object_at(o, "metadata.ownerReferences"), i, ref) {
        const char *has = object_str(ref, "uid");
        if (uid && has && !strcmp(uid, has))
            return ref;
    }
    return NULL;
}

static bool has_dependents(const struct graph *g, const json_t *owner, bool blocking_only) {
    for (size_t i = 0; i < g->all.num_items; i++) {
        const json_t *ref = reference_to(g->all.items[i]->json, owner);
        if (ref && (!blocking_only || object_bool(ref, "blockOwnerDeletion", false)))
            return true;
    }
    return false;
}

/* Another writer was faster: the object is looked at again because it changed. */
static enum errc tolerate(enum errc rc) {
    return rc == ERR_CONFLICT || rc == ERR_NOT_FOUND ? OK : rc;
}

/* Dependents. */

static enum errc delete_in_foreground(struct world *w, const struct store_object *o,
                                      struct error *err) {
    if (object_deleting(o->json))
        return OK;
    char now[CLOCK_RFC3339_BYTES];
    json_t *marked = json_deep_copy(o->json);
    json_t *finalizers = object_at(marked, "metadata.finalizers");
    if (!json_is_array(finalizers))
        object_set(marked, "metadata.finalizers", finalizers = json_array());
    json_array_append_new(finalizers, json_string(FOREGROUND));
    object_set(marked, "metadata.deletionTimestamp", json_string(clock_rfc3339(w->wall_ms, now)));
    object_set(marked, "metadata.deletionGracePeriodSeconds", json_integer(0));
    return world_update(w, o, marked, NULL, err);
}

static enum errc drop_references(const struct graph *g, const struct store_object *o,
                                 struct error *err) {
    json_t *kept = json_array(), *ref;
    size_t i;
    json_array_foreach (object_at(o->json, "metadata.ownerReferences"), i, ref) {
        const struct store_object *owner = find_owner(g, o->json, ref);
        if (owner && !waits_for_dependents(owner->json))
            json_array_append(kept, ref);
    }
    json_t *updated = json_deep_copy(o->json);
    object_set(updated, "metadata.ownerReferences", kept);
    return world_update(g->w, o, updated, NULL, err);
}

/* There is such an object, in another namespace. */
static bool lies_elsewhere(const struct graph *g, const json_t *ref) {
    struct by_uid want = {.uid = object_str(ref, "uid")};
    return want.uid && bsearch(&want, g->index, g->num_index, sizeof(*g->index), compare_uid);
}

static void tell_elsewhere(struct world *w, const json_t *o, const json_t *ref) {
    const char *api = object_str(ref, "apiVersion"), *kind = object_str(ref, "kind");
    const char *name = object_str(ref, "name");
    event_emit(w, o, EVENT_WARNING, "OwnerRefInvalidNamespace", "garbage-collector-controller",
               "ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace "
               "\"%s\"",
               api ? api : "", kind ? kind : "", object_namespace(o), name ? name : "",
               object_str(ref, "uid"), object_namespace(o));
}

static enum errc follow_owners(const struct graph *g, const struct store_object *o,
                               struct error *err) {
    size_t solid = 0, waiting = 0, absent = 0, i;
    json_t *ref;
    json_array_foreach (object_at(o->json, "metadata.ownerReferences"), i, ref) {
        const struct store_object *owner = find_owner(g, o->json, ref);
        if (!owner && lies_elsewhere(g, ref))
            tell_elsewhere(g->w, o->json, ref);
        absent += !owner;
        waiting += owner && waits_for_dependents(owner->json);
        solid += owner && !waits_for_dependents(owner->json);
    }
    if (!waiting && !absent)
        return OK;
    if (solid)
        return drop_references(g, o, err);
    if (waiting && kind_of_key(o->key) != KIND_POD && has_dependents(g, o->json, false))
        return delete_in_foreground(g->w, o, err);
    return world_delete(g->w, o, err);
}

/* Owners. */

static enum errc orphan_dependents(const struct graph *g, const struct store_object *owner,
                                   struct error *err) {
    for (size_t i = 0; i < g->all.num_items; i++) {
        const struct store_object *o = g->all.items[i];
        if (!reference_to(o->json, owner->json))
            continue;
        json_t *updated = json_deep_copy(o->json), *ref;
        json_t *refs = object_at(updated, "metadata.ownerReferences");
        size_t k;
        json_array_foreach (refs, k, ref) {
            const char *uid = object_str(ref, "uid");
            if (uid && !strcmp(uid, object_uid(owner->json))) {
                json_array_remove(refs, k);
                break;
            }
        }
        if (!json_array_size(refs))
            object_delete(updated, "metadata.ownerReferences");
        if (world_update(g->w, o, updated, NULL, err))
            return err->code;
    }
    return OK;
}

/* Takes one finalizer off; the object goes with the last one. */
static enum errc remove_finalizer(const struct graph *g, const struct store_object *o,
                                  const char *finalizer, struct error *err) {
    json_t *updated = json_deep_copy(o->json), *f;
    json_t *finalizers = object_at(updated, "metadata.finalizers");
    size_t i;
    json_array_foreach (finalizers, i, f) {
        if (json_is_string(f) && !strcmp(json_string_value(f), finalizer)) {
            json_array_remove(finalizers, i);
            break;
        }
    }
    bool last = !json_array_size(finalizers);
    if (last)
        object_delete(updated, "metadata.finalizers");
    if (last && kind_of_key(o->key) != KIND_POD) {
        json_decref(updated);
        return world_remove(g->w, o, err);
    }
    return world_update(g->w, o, updated, NULL, err);
}

static enum errc finish_deletion(const struct graph *g, const struct store_object *o,
                                 struct error *err) {
    enum kind kind = kind_of_key(o->key);
    if (has_finalizer(o->json, ORPHAN)) {
        if (orphan_dependents(g, o, err))
            return err->code;
        return remove_finalizer(g, o, ORPHAN, err);
    }
    if (has_finalizer(o->json, FOREGROUND))
        return has_dependents(g, o->json, true) ? OK : remove_finalizer(g, o, FOREGROUND, err);
    if (!json_array_size(object_at(o->json, "metadata.finalizers")) && kind != KIND_POD &&
        kind != KIND_NAMESPACE)
        return world_remove(g->w, o, err);
    return OK;
}

enum errc gc_collect(struct world *w, struct error *err) {
    struct graph g = {0};
    enum errc rc = OK;
    graph_init(&g, w);
    for (size_t i = 0; i < g.all.num_items && !rc; i++) {
        const struct store_object *o = g.all.items[i];
        if (object_deleting(o->json))
            rc = tolerate(finish_deletion(&g, o, err));
        else if (json_array_size(object_at(o->json, "metadata.ownerReferences")))
            rc = tolerate(follow_owners(&g, o, err));
    }
    graph_deinit(&g);
    return rc;
}
