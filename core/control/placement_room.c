/* Room on a node.
 *
 * A resource is a sum: what is allocatable, less what pods ask for, in thousandths so that cpu and
 * memory are handled alike. For devices a sum is not enough: two pods with 40 GiB of GPU memory
 * each do not fit onto two GPUs that have 30 GiB left. So each device has its own account: shares
 * that are given away, and bytes.
 *
 *   asks for                      gets                                  holds there
 *   nvidia.com/gpu: 2             two whole GPUs                        everything
 *   nvidia.com/gpu.shared: 1      a share of one that is time-sliced    a share
 *   inferd.dev/gpu-memory: 20Gi   a part of a GPU that is not whole's   20 GiB
 *   both                          as above, where 20 GiB are left       both, on each
 *
 * A pod that serves a model and asks for no memory holds what its process was computed, or has
 * measured itself, to take; the same of the memory of GPUs that it asks for.
 *
 * Best fit: of the devices where a pod would fit the one is chosen on which it leaves least memory,
 * so that the large ones stay free for who needs them; among equals the one with fewer shares given
 * away. Sizes are small (64 GPUs, some dozen pods), so everything is looked for from the start. */
#include "core/control/placement_room.h"

#include <stdio.h>

#include "core/object.h"
#include "core/quantity.h"

struct amount {
    const char *name;
    int64_t milli;
};

struct grant {
    uint32_t device;
    bool share;     /* one of its shares; false: memory only */
    uint64_t bytes; /* of its memory */
};

/* A pod and what it holds. */
struct holding {
    const json_t *pod;
    struct amount *amounts; /* by name */
    size_t num_amounts;
    uint64_t gpu_bytes; /* computed need, if it asks for GPUs and not for bytes of their memory */
    struct grant *grants;
    size_t num_grants;
    bool held;
};

struct resource {
    const char *name;
    int64_t allocatable, used;
};

struct account {
    uint32_t shares;  /* given away */
    uint32_t tenants; /* that have a part of its memory and no share */
    uint64_t bytes;
};

struct placement_room {
    const json_t *node;
    const struct devices *devices;
    struct account *accounts; /* of each device */
    struct resource *resources;
    size_t num_resources;
    struct holding *holdings;
    size_t num_holdings, cap_holdings;
    int64_t num_pods, pods_max; /* in thousandths; -1: no bound */
};

/* What pods ask for. */

int64_t placement_container_request(const json_t *container, const char *resource) {
    static const char *const fields[] = {"requests", "limits"};
    const json_t *resources = json_object_get(container, "resources");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        int64_t milli;
        const json_t *value = json_object_get(json_object_get(resources, fields[i]), resource);
        if (value && quantity_milli(value, &milli))
            return milli;
    }
    return 0;
}

static int64_t plus(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t placement_request(const json_t *pod, const char *resource) {
    int64_t sum = 0, init_max = 0;
    const json_t *spec = json_object_get(pod, "spec");
    size_t i;
    json_t *c;
    json_array_foreach (json_object_get(spec, "containers"), i, c)
        sum = plus(sum, placement_container_request(c, resource));
    json_array_foreach (json_object_get(spec, "initContainers"), i, c) {
        int64_t milli = placement_container_request(c, resource);
        init_max = milli > init_max ? milli : init_max;
    }
    int64_t overhead = 0;
    const json_t *extra = json_object_get(json_object_get(spec, "overhead"), resource);
    if (extra && !quantity_milli(extra, &overhead))
        overhead = 0;
    return plus(sum > init_max ? sum : init_max, overhead);
}

static int compare_amounts(const void *a, const void *b) {
    return strcmp(((const struct amount *)a)->name, ((const struct amount *)b)->name);
}

static void name_amount(struct holding *h, size_t *cap, const char *name) {
    for (size_t i = 0; i < h->num_amounts; i++) {
        if (!strcmp(h->amounts[i].name, name))
            return;
    }
    if (h->num_amounts == *cap) {
        *cap = *cap ? 2 * *cap : 8;
        h->amounts = mem_realloc(h->amounts, *cap * sizeof(*h->amounts));
    }
    h->amounts[h->num_amounts++].name = name;
}

static bool is_named(const struct holding *h, const char *name) {
    for (size_t i = 0; i < h->num_amounts; i++) {
        if (!strcmp(h->amounts[i].name, name))
            return true;
    }
    return false;
}

/* Who asks gets what he asks for; else what was worked out counts. */
static void read_need(struct holding *h, size_t *cap) {
    const char *text = object_annotation(h->pod, PLACEMENT_MEMORY_ANNOTATION);
    json_t *need = text ? json_loads(text, 0, NULL) : NULL;
    int64_t measured = object_int(need, "measured", 0), bytes = object_int(need, "bytes", 0);
    int64_t gpu = object_int(need, "gpu", 0);
    bytes = measured > 0 ? measured : bytes;
    if (bytes > 0 && bytes < INT64_MAX / 1000 && !is_named(h, "memory")) {
        name_amount(h, cap, "memory");
        h->amounts[h->num_amounts - 1].milli = bytes * 1000;
    }
    if (gpu > 0 && !is_named(h, DEVICES_MEMORY_RESOURCE))
        h->gpu_bytes = (uint64_t)gpu;
    json_decref(need);
}

static void read_amounts(struct holding *h) {
    static const char *const lists[] = {"containers", "initContainers"};
    static const char *const fields[] = {"requests", "limits"};
    const json_t *spec = json_object_get(h->pod, "spec");
    size_t cap = 0, i;
    json_t *c, *value;
    const char *name;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        json_array_foreach (json_object_get(spec, lists[l]), i, c) {
            json_t *resources = json_object_get(c, "resources");
            for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
                json_object_foreach (json_object_get(resources, fields[f]), name, value)
                    name_amount(h, &cap, name);
            }
        }
    }
    for (i = 0; i < h->num_amounts; i++)
        h->amounts[i].milli = placement_request(h->pod, h->amounts[i].name);
    read_need(h, &cap);
    if (h->num_amounts)
        qsort(h->amounts, h->num_amounts, sizeof(*h->amounts), compare_amounts);
}

static int64_t amount_of(const struct holding *h, const char *name) {
    for (size_t i = 0; i < h->num_amounts; i++) {
        if (!strcmp(h->amounts[i].name, name))
            return h->amounts[i].milli;
    }
    return 0;
}

static void holding_deinit(struct holding *h) {
    free(h->amounts);
    free(h->grants);
}

/* Accounts. */

static struct resource *find_resource(struct placement_room *r, const char *name) {
    for (size_t i = 0; i < r->num_resources; i++) {
        if (!strcmp(r->resources[i].name, name))
            return &r->resources[i];
    }
    return NULL;
}

static void book_grant(struct placement_room *r, const struct grant *g, bool take) {
    struct account *a = &r->accounts[g->device];
    a->shares += g->share ? take ? 1 : -1 : 0;
    a->tenants += g->share ? 0 : take ? 1 : -1;
    a->bytes += take ? g->bytes : -g->bytes;
}

static void book(struct placement_room *r, const struct holding *h, bool take) {
    r->num_pods += take ? 1000 : -1000;
    for (size_t i = 0; i < h->num_amounts; i++) {
        struct resource *has = find_resource(r, h->amounts[i].name);
        if (has)
            has->used =
                take ? plus(has->used, h->amounts[i].milli) : has->used - h->amounts[i].milli;
    }
    for (size_t i = 0; i < h->num_grants; i++)
        book_grant(r, &h->grants[i], take);
}

struct placement_room *placement_room_create(const json_t *node, const struct devices *devices) {
    struct placement_room *r = mem_alloc(sizeof(*r));
    const json_t *allocatable = object_at(node, "status.allocatable");
    const char *name;
    json_t *value;
    r->node = node;
    r->devices = devices;
    r->accounts = mem_array(devices ? devices->num + 1 : 1, sizeof(*r->accounts));
    r->resources = mem_array(json_object_size(allocatable) + 1, sizeof(*r->resources));
    r->pods_max = -1;
    json_object_foreach ((json_t *)(uintptr_t)allocatable, name, value) {
        struct resource *has = &r->resources[r->num_resources++];
        has->name = name;
        if (!quantity_milli(value, &has->allocatable))
            has->allocatable = 0;
        if (!strcmp(name, "pods"))
            r->pods_max = has->allocatable;
    }
    return r;
}

void placement_room_destroy(struct placement_room *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->num_holdings; i++)
        holding_deinit(&r->holdings[i]);
    free(r->holdings);
    free(r->resources);
    free(r->accounts);
    free(r);
}

/* Devices. */

static void add_grant(struct holding *h, uint32_t device, bool share, uint64_t bytes) {
    h->grants = mem_realloc(h->grants, (h->num_grants + 1) * sizeof(*h->grants));
    h->grants[h->num_grants++] = (struct grant){.device = device, .share = share, .bytes = bytes};
}

/* Bytes of a device's memory that one share of it holds. */
static uint64_t share_bytes(const struct device *d, uint64_t wanted) {
    return d->shares == 1 ? d->memory_bytes : wanted;
}

static bool is_device_resource(const struct placement_room *r, const char *resource) {
    for (uint32_t i = 0; r->devices && i < r->devices->num; i++) {
        if (!strcmp(r->devices->list[i].resource, resource))
            return true;
    }
    return r->devices && r->devices->num && !strcmp(resource, DEVICES_MEMORY_RESOURCE);
}

/* Bytes on each of the pod's devices: as it asks, or its computed need in equal parts. */
static uint64_t wanted_bytes(const struct placement_room *r, const struct holding *h) {
    uint64_t num = 0;
    for (size_t i = 0; i < h->num_amounts && h->gpu_bytes; i++)
        num += is_device_resource(r, h->amounts[i].name) ? (uint64_t)h->amounts[i].milli / 1000 : 0;
    return num ? h->gpu_bytes / num : (uint64_t)amount_of(h, DEVICES_MEMORY_RESOURCE) / 1000;
}

/* What a bound pod was given; devices that are not there any more hold nothing. */
static void read_grants(const struct placement_room *r, struct holding *h) {
    const char *text = object_annotation(h->pod, PLACEMENT_DEVICES_ANNOTATION), *resource;
    json_t *given = text && r->devices ? json_loads(text, 0, NULL) : NULL, *list, *item;
    size_t i;
    json_object_foreach (given, resource, list) {
        bool share = strcmp(resource, DEVICES_MEMORY_RESOURCE) != 0;
        json_array_foreach (list, i, item) {
            const char *uuid = json_string_value(item);
            const struct device *d = uuid ? devices_find(r->devices, uuid) : NULL;
            if (d)
                add_grant(h, (uint32_t)(d - r->devices->list), share,
                          share ? share_bytes(d, wanted_bytes(r, h)) : wanted_bytes(r, h));
        }
    }
    json_decref(given);
}

/* Could the device give a share, or else a part of its memory? */
static bool can_give(const struct placement_room *r, uint32_t i, bool share, uint64_t bytes) {
    const struct device *d = &r->devices->list[i];
    const struct account *a = &r->accounts[i];
    if (!d->sound || bytes > d->memory_bytes)
        return false;
    if (share && d->shares == 1)
        return !a->shares && !a->tenants;
    if (!share && (!d->divisible || (d->shares == 1 && a->shares)))
        return false;
    /* More than there is can be held: by whoever wrote its annotation itself. */
    return (!share || a->shares < d->shares) && a->bytes <= d->memory_bytes &&
           bytes <= d->memory_bytes - a->bytes;
}

/* The best device for one share (of this resource) or part; -1: none can give it. */
static int64_t best_device(const struct placement_room *r, const char *resource, uint64_t bytes) {
    bool share = strcmp(resource, DEVICES_MEMORY_RESOURCE) != 0;
    uint64_t least = UINT64_MAX;
    uint32_t shares = 0;
    int64_t best = -1;
    for (uint32_t i = 0; i < r->devices->num; i++) {
        const struct device *d = &r->devices->list[i];
        if ((share && strcmp(d->resource, resource) != 0) || !can_give(r, i, share, bytes))
            continue;
        uint64_t left = d->memory_bytes - r->accounts[i].bytes - bytes;
        if (left < least || (left == least && r->accounts[i].shares < shares)) {
            best = i;
            least = left;
            shares = r->accounts[i].shares;
        }
    }
    return best;
}

/* Chooses `count` devices of a resource, taking each at once. */
static bool choose(struct placement_room *r, struct holding *h, const char *resource, int64_t count,
                   uint64_t bytes) {
    bool share = strcmp(resource, DEVICES_MEMORY_RESOURCE) != 0;
    for (int64_t c = 0; c < count; c++) {
        int64_t i = best_device(r, resource, bytes);
        if (i < 0)
            return false;
        add_grant(h, (uint32_t)i, share, share ? share_bytes(&r->devices->list[i], bytes) : bytes);
        book_grant(r, &h->grants[h->num_grants - 1], true);
    }
    return true;
}

/* Chooses all that the pod asks for and takes it. False: `*ret_missing` cannot be given; what was
 * chosen before stays taken. */
static bool choose_all(struct placement_room *r, struct holding *h, const char **ret_missing) {
    uint64_t bytes = wanted_bytes(r, h);
    bool any = false;
    for (size_t i = 0; i < h->num_amounts; i++) {
        const char *name = h->amounts[i].name;
        int64_t count = h->amounts[i].milli / 1000;
        if (!count || !strcmp(name, DEVICES_MEMORY_RESOURCE) || !is_device_resource(r, name))
            continue;
        any = true;
        if (!choose(r, h, name, count, bytes)) {
            bool of_memory = bytes && best_device(r, name, 0) >= 0;
            *ret_missing = of_memory ? DEVICES_MEMORY_RESOURCE : name;
            return false;
        }
    }
    *ret_missing = DEVICES_MEMORY_RESOURCE;
    return any || !bytes || !is_device_resource(r, DEVICES_MEMORY_RESOURCE) ||
           choose(r, h, DEVICES_MEMORY_RESOURCE, 1, bytes);
}

static void release(struct placement_room *r, const struct holding *h) {
    for (size_t i = 0; i < h->num_grants; i++)
        book_grant(r, &h->grants[i], false);
}

/* Who is there. */

void placement_room_add(struct placement_room *r, const json_t *pod) {
    struct holding h = {.pod = pod, .held = true};
    const char *missing;
    read_amounts(&h);
    if (object_str(pod, "spec.nodeName")) {
        read_grants(r, &h);
    } else {
        bool all = choose_all(r, &h, &missing);
        release(r, &h); /* book() takes it again */
        if (!all)
            h.num_grants = 0;
    }
    book(r, &h, true);
    if (r->num_holdings == r->cap_holdings) {
        r->cap_holdings = r->cap_holdings ? 2 * r->cap_holdings : 64;
        r->holdings = mem_realloc(r->holdings, r->cap_holdings * sizeof(*r->holdings));
    }
    r->holdings[r->num_holdings++] = h;
}

uint64_t placement_room_memory(const struct placement_room *r, bool all) {
    for (size_t i = 0; i < r->num_resources; i++) {
        const struct resource *has = &r->resources[i];
        int64_t left = has->allocatable - (all ? 0 : has->used);
        if (!strcmp(has->name, "memory"))
            return left > 0 ? (uint64_t)left / 1000 : 0;
    }
    return 0;
}

size_t placement_room_num(const struct placement_room *r) {
    return r->num_holdings;
}

const json_t *placement_room_pod(const struct placement_room *r, size_t i) {
    return r->holdings[i].pod;
}

void placement_room_remove(struct placement_room *r, size_t i) {
    ASSERT(r->holdings[i].held);
    r->holdings[i].held = false;
    book(r, &r->holdings[i], false);
}

void placement_room_restore(struct placement_room *r, size_t i) {
    ASSERT(!r->holdings[i].held);
    r->holdings[i].held = true;
    book(r, &r->holdings[i], true);
}

/* One more. */

static bool is_gpu(const char *resource) {
    return strstr(resource, "/gpu") || !strncmp(resource, "nvidia.com/", 11);
}

static void missing(struct buf *reasons, const char *what, const char *name) {
    buf_printf(reasons, "%s1 %s%s", reasons->len ? ", " : "", what, name);
}

/* The node has none of it, sound or not. */
static bool lacks(const struct placement_room *r, const char *resource) {
    int64_t milli;
    const json_t *capacity = json_object_get(object_at(r->node, "status.capacity"), resource);
    const json_t *allocatable = json_object_get(object_at(r->node, "status.allocatable"), resource);
    return !(capacity && quantity_milli(capacity, &milli) && milli) &&
           !(allocatable && quantity_milli(allocatable, &milli) && milli);
}

static json_t *grants_json(const struct placement_room *r, const struct holding *h) {
    json_t *devices = h->num_grants ? json_object() : NULL;
    for (size_t i = 0; i < h->num_grants; i++) {
        const struct device *d = &r->devices->list[h->grants[i].device];
        const char *resource = h->grants[i].share ? d->resource : DEVICES_MEMORY_RESOURCE;
        json_t *list = json_object_get(devices, resource);
        if (!list)
            json_object_set_new(devices, resource, list = json_array());
        json_array_append_new(list, json_string(d->uuid));
    }
    return devices;
}

bool placement_room_fits(struct placement_room *r, const json_t *pod,
                         const struct placement_fit *fit) {
    struct holding h = {.pod = pod};
    size_t len = fit->reasons->len;
    const char *lacking;
    read_amounts(&h);
    for (size_t i = 0; i < h.num_amounts; i++) {
        const struct amount *a = &h.amounts[i];
        const struct resource *has = find_resource(r, a->name);
        if (!a->milli)
            continue;
        if (fit->cpu_fallback && is_gpu(a->name) && lacks(r, a->name))
            *fit->fallback = a->name;
        else if (!has || a->milli > has->allocatable - has->used)
            missing(fit->reasons, "Insufficient ", a->name);
    }
    if (fit->reasons->len == len && !choose_all(r, &h, &lacking))
        missing(fit->reasons, "Insufficient ", lacking);
    release(r, &h);
    if (r->pods_max >= 0 && r->num_pods >= r->pods_max)
        missing(fit->reasons, "Too many pods", "");
    bool fits = fit->reasons->len == len;
    if (fit->devices)
        *fit->devices = fits ? grants_json(r, &h) : NULL;
    holding_deinit(&h);
    return fits;
}
