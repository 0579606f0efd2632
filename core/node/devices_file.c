/* The file of --fake-devices:
 *
 *   machine: { cores: 192, memory: 2Ti }            # else the machine's own
 *   driver: { version: 550.54.15, cuda: "12.4" }
 *   gpus:
 *     - { product: NVIDIA H200, count: 8, memory: 141Gi, computeCapability: "9.0" }
 *     - product: NVIDIA H100 80GB HBM3
 *       memory: 80Gi
 *       uncorrectedErrors: 1                        # it is quarantined
 *     - product: NVIDIA H200
 *       memory: 141Gi
 *       mig: [{ profile: 1g.18gb, count: 4 }, { profile: 3g.71gb }]
 *   sharing:                                        # as in the device plugin's own file
 *     timeSlicing:
 *       renameByDefault: true
 *       resources: [{ name: nvidia.com/gpu, replicas: 4 }]
 *
 * UUIDs follow from the place in the file, so that a pod keeps its device when a daemon starts
 * anew; a GPU of count 1 may have its own (`uuid`). A field is read by what it may be, and whoever
 * misspells one is told which there are. */
#include "core/node/devices_file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "core/base/yaml.h"
#include "core/quantity.h"

enum { PLACE_BYTES = 128, FIELD_NAMES_MAX = 12 };

/* An object of the file and its place there ("gpus[0]"; "": the file itself). */
struct node {
    const json_t *o;
    char place[PLACE_BYTES];
};

struct bounds {
    int64_t min, max;
};

static void child_place(const struct node *n, const char *key, char out[PLACE_BYTES]) {
    snprintf(out, PLACE_BYTES, "%.90s%s%.32s", n->place, *n->place ? "." : "", key);
}

static enum errc wrong(const struct node *n, const char *key, const char *what, struct error *err) {
    char place[PLACE_BYTES];
    child_place(n, key, place);
    AUTO_FREE char *text = json_dumps(json_object_get(n->o, key), JSON_ENCODE_ANY);
    return err_field(err, ERR_INVALID, place, "%s: %.80s %s", place, text ? text : "nothing", what);
}

/* Every key is one of the known ones (up to a NULL). */
static enum errc check_keys(const struct node *n, const char *const known[FIELD_NAMES_MAX],
                            struct error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(n->o))
        return err_field(err, ERR_INVALID, n->place, "%s%snot a mapping of fields to values",
                         n->place, *n->place ? ": " : "");
    json_object_foreach ((json_t *)(uintptr_t)n->o, key, value) {
        AUTO_BUF names = BUF_INIT;
        bool found = false;
        for (size_t i = 0; known[i]; i++) {
            found = found || !strcmp(key, known[i]);
            buf_printf(&names, "%s%s", i ? ", " : "", known[i]);
        }
        char place[PLACE_BYTES];
        child_place(n, key, place);
        if (!found)
            return err_field(err, ERR_INVALID, place, "%s: no such field; there are: %s", place,
                             names.data);
    }
    return OK;
}

/* The readers leave the result alone when the field is not there. */

static enum errc read_int(const struct node *n, const char *key, struct bounds b, int64_t *ret,
                          struct error *err) {
    const json_t *v = json_object_get(n->o, key);
    char what[64];
    if (!v)
        return OK;
    snprintf(what, sizeof(what), "is not a whole number within %" PRId64 "..%" PRId64, b.min,
             b.max);
    if (!json_is_integer(v) || json_integer_value(v) < b.min || json_integer_value(v) > b.max)
        return wrong(n, key, what, err);
    *ret = json_integer_value(v);
    return OK;
}

static enum errc read_bytes(const struct node *n, const char *key, uint64_t *ret,
                            struct error *err) {
    const json_t *v = json_object_get(n->o, key);
    int64_t milli;
    if (!v)
        return OK;
    if (!quantity_milli(v, &milli) || milli < 1000)
        return wrong(n, key, "is not a quantity of bytes within 1..9223372036854775", err);
    *ret = (uint64_t)milli / 1000;
    return OK;
}

static enum errc read_text(const struct node *n, const char *key, char *out, size_t size,
                           struct error *err) {
    const json_t *v = json_object_get(n->o, key);
    char what[64];
    if (!v)
        return OK;
    snprintf(what, sizeof(what), "is not a text of 1..%zu bytes", size - 1);
    if (!json_is_string(v) || !json_string_length(v) || json_string_length(v) >= size)
        return wrong(n, key, what, err);
    snprintf(out, size, "%s", json_string_value(v));
    return OK;
}

/* "9.0"; a bare 9.5 is a number in YAML, and would lose the zero of 9.10: a text it must be. */
static enum errc read_version(const struct node *n, const char *key, uint32_t *ret_major,
                              uint32_t *ret_minor, struct error *err) {
    const char *text = json_string_value(json_object_get(n->o, key));
    int end = 0;
    if (!json_object_get(n->o, key))
        return OK;
    if (!text || sscanf(text, "%3" SCNu32 ".%3" SCNu32 "%n", ret_major, ret_minor, &end) != 2 ||
        text[end])
        return wrong(n, key, "is not a text like \"9.0\"", err);
    return OK;
}

static enum errc read_flag(const struct node *n, const char *key, bool *ret, struct error *err) {
    const json_t *v = json_object_get(n->o, key);
    if (v && !json_is_boolean(v))
        return wrong(n, key, "is not true or false", err);
    *ret = v ? json_is_true(v) : *ret;
    return OK;
}

/* The list under the key with at most max items; NULL when it is not there. */
static enum errc read_list(const struct node *n, const char *key, size_t max, const json_t **ret,
                           struct error *err) {
    const json_t *v = json_object_get(n->o, key);
    char what[64];
    snprintf(what, sizeof(what), "is not a list of 0..%zu items", max);
    if (v && (!json_is_array(v) || json_array_size(v) > max))
        return wrong(n, key, what, err);
    *ret = v;
    return OK;
}

static struct node item_of(const struct node *n, const char *key, const json_t *list, size_t i) {
    struct node item = {.o = json_array_get(list, i)};
    char place[PLACE_BYTES];
    child_place(n, key, place);
    snprintf(item.place, sizeof(item.place), "%.100s[%zu]", place, i);
    return item;
}

static struct node member_of(const struct node *n, const char *key) {
    struct node member = {.o = json_object_get(n->o, key)};
    child_place(n, key, member.place);
    return member;
}

/* GPUs. */

static void make_uuid(char out[DEVICE_UUID_BYTES], const char *kind, uint32_t gpu, uint32_t slice) {
    snprintf(out, DEVICE_UUID_BYTES, "%s" DEVICES_FAKE_UUID_PART "%04x-4000-8000-%012x", kind, gpu,
             slice);
}

static enum errc read_slices(const struct node *n, struct device_gpu *g, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"profile", "count", "memory"};
    const json_t *list = NULL;
    uint32_t compute = 0;
    uint64_t memory = 0;
    if (read_list(n, "mig", DEVICES_SLICES_MAX, &list, err))
        return err->code;
    g->mig = list != NULL;
    g->mig_capable = g->mig_capable || g->mig;
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct node item = item_of(n, "mig", list, i);
        struct device_slice slice = {0};
        uint32_t slices = 0;
        int64_t count = 1;
        if (check_keys(&item, known, err) ||
            read_text(&item, "profile", slice.profile, sizeof(slice.profile), err) ||
            read_int(&item, "count", (struct bounds){1, DEVICES_SLICES_MAX}, &count, err))
            return err->code;
        if (!devices_profile_parse(slice.profile, &slices, &slice.memory_bytes))
            return wrong(&item, "profile", "is not a MIG profile like 1g.18gb (1g..7g)", err);
        if (read_bytes(&item, "memory", &slice.memory_bytes, err))
            return err->code;
        for (int64_t c = 0; c < count; c++) {
            compute += slices;
            memory += slice.memory_bytes;
            if (compute > DEVICES_SLICES_MAX || memory > g->memory_bytes)
                return err_field(err, ERR_INVALID, item.place,
                                 "%s: the slices up to here take %u of %d compute slices and "
                                 "%" PRIu64 " of %" PRIu64 " bytes",
                                 item.place, compute, DEVICES_SLICES_MAX, memory, g->memory_bytes);
            g->slices[g->num_slices++] = slice;
        }
    }
    return OK;
}

/* One entry of `gpus`, without its count. */
static enum errc read_gpu(const struct node *n, struct device_gpu *g, struct error *err) {
    const struct bounds percent = {0, 100}, celsius = {-50, 200}, errors = {0, INT64_MAX};
    const struct bounds milliwatts = {0, 10000000};
    int64_t utilisation = -1, temperature = -1, uncorrected = 0;
    *g = (struct device_gpu){.power_milliwatts = -1, .ecc = true};
    if (read_text(n, "product", g->product, sizeof(g->product), err) ||
        read_text(n, "uuid", g->uuid, sizeof(g->uuid), err) ||
        read_bytes(n, "memory", &g->memory_bytes, err) ||
        read_bytes(n, "memoryUsed", &g->memory_used_bytes, err) ||
        read_version(n, "computeCapability", &g->compute_major, &g->compute_minor, err) ||
        read_int(n, "utilization", percent, &utilisation, err) ||
        read_int(n, "temperature", celsius, &temperature, err) ||
        read_int(n, "powerMilliwatts", milliwatts, &g->power_milliwatts, err) ||
        read_int(n, "uncorrectedErrors", errors, &uncorrected, err))
        return err->code;
    if (!*g->product)
        return wrong(n, "product", "is not the name of a product (\"NVIDIA H200\")", err);
    if (!g->memory_bytes)
        return wrong(n, "memory", "is not a quantity of bytes (141Gi)", err);
    if (g->memory_used_bytes > g->memory_bytes)
        return wrong(n, "memoryUsed", "is more than memory", err);
    g->utilisation_percent = (int32_t)utilisation;
    g->temperature_celsius = (int32_t)temperature;
    g->uncorrected_errors = (uint64_t)uncorrected;
    g->mig_capable = g->compute_major >= 8;
    return read_slices(n, g, err);
}

static bool uuid_taken(const struct devices *d, const char *uuid) {
    for (uint32_t i = 0; i < d->num_gpus; i++) {
        if (!strcmp(d->gpus[i].uuid, uuid))
            return true;
    }
    return false;
}

static enum errc read_gpus(const struct node *n, struct devices *d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"product",
                                                       "count",
                                                       "uuid",
                                                       "memory",
                                                       "memoryUsed",
                                                       "mig",
                                                       "utilization",
                                                       "temperature",
                                                       "powerMilliwatts",
                                                       "uncorrectedErrors",
                                                       "computeCapability"};
    const json_t *list = NULL;
    if (read_list(n, "gpus", DEVICES_GPUS_MAX, &list, err))
        return err->code;
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct node item = item_of(n, "gpus", list, i);
        struct device_gpu gpu;
        int64_t count = 1;
        const struct bounds left = {1, DEVICES_GPUS_MAX - (int64_t)d->num_gpus};
        if (check_keys(&item, known, err) || read_int(&item, "count", left, &count, err))
            return err->code;
        if (left.max < 1)
            return err_field(err, ERR_INVALID, item.place, "%s: more than %d GPUs", item.place,
                             DEVICES_GPUS_MAX);
        if (read_gpu(&item, &gpu, err))
            return err->code;
        if (*gpu.uuid && (count > 1 || uuid_taken(d, gpu.uuid)))
            return wrong(&item, "uuid", "names more than one GPU", err);
        for (int64_t c = 0; c < count; c++) {
            struct device_gpu *g = &d->gpus[d->num_gpus];
            *g = gpu;
            if (!*g->uuid)
                make_uuid(g->uuid, "GPU", d->num_gpus, 0);
            for (uint32_t s = 0; s < g->num_slices; s++)
                make_uuid(g->slices[s].uuid, "MIG", d->num_gpus, s + 1);
            d->num_gpus++;
        }
    }
    return OK;
}

/* Sharing. */

static enum errc read_rule(const struct node *n, bool rename_all, struct device_sharing *rule,
                           struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"name", "rename", "replicas", "devices"};
    const char *devices = json_string_value(json_object_get(n->o, "devices"));
    int64_t replicas = 0;
    if (check_keys(n, known, err) ||
        read_text(n, "name", rule->resource, sizeof(rule->resource) - strlen(".shared"), err) ||
        read_text(n, "rename", rule->shared_as, sizeof(rule->shared_as), err) ||
        read_int(n, "replicas", (struct bounds){2, DEVICES_SHARES_MAX}, &replicas, err))
        return err->code;
    if (strcmp(rule->resource, DEVICES_GPU_RESOURCE) != 0 &&
        strncmp(rule->resource, DEVICES_MIG_RESOURCE_PREFIX, strlen(DEVICES_MIG_RESOURCE_PREFIX)) !=
            0)
        return wrong(n, "name", "is neither nvidia.com/gpu nor nvidia.com/mig-PROFILE", err);
    if (*rule->shared_as && strncmp(rule->shared_as, "nvidia.com/", 11) != 0)
        return wrong(n, "rename", "does not begin with nvidia.com/", err);
    if (!replicas)
        return wrong(n, "replicas", "is not a whole number within 2..1024", err);
    if (json_object_get(n->o, "devices") && (!devices || strcmp(devices, "all") != 0))
        return wrong(n, "devices", "is not all: shares of some devices only are not made", err);
    if (!*rule->shared_as) {
        memcpy(rule->shared_as, rule->resource, sizeof(rule->shared_as));
        if (rename_all) /* room for it was kept above */
            memcpy(rule->shared_as + strlen(rule->shared_as), ".shared", sizeof(".shared"));
    }
    rule->shares = (uint32_t)replicas;
    return OK;
}

static enum errc read_sharing(const struct node *n, struct devices *d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"timeSlicing"};
    static const char *const known_inside[FIELD_NAMES_MAX] = {
        "renameByDefault", "failRequestsGreaterThanOne", "resources"};
    struct node sharing = member_of(n, "sharing");
    if (!sharing.o)
        return OK;
    if (check_keys(&sharing, known, err))
        return err->code;
    struct node slicing = member_of(&sharing, "timeSlicing");
    bool rename_all = false, fail_more = false;
    const json_t *list = NULL;
    if (!slicing.o)
        return OK;
    if (check_keys(&slicing, known_inside, err) ||
        read_flag(&slicing, "renameByDefault", &rename_all, err) ||
        read_flag(&slicing, "failRequestsGreaterThanOne", &fail_more, err) ||
        read_list(&slicing, "resources", DEVICES_SHARING_RULES_MAX, &list, err))
        return err->code;
    if (fail_more)
        return wrong(&slicing, "failRequestsGreaterThanOne", "is not supported; only false is",
                     err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct node item = item_of(&slicing, "resources", list, i);
        struct device_sharing *rule = &d->sharing[d->num_sharing];
        if (read_rule(&item, rename_all, rule, err))
            return err->code;
        for (uint32_t r = 0; r < d->num_sharing; r++) {
            if (!strcmp(d->sharing[r].resource, rule->resource))
                return wrong(&item, "name", "has a rule already", err);
        }
        d->num_sharing++;
    }
    return OK;
}

/* Files. */

static enum errc read_machine(const struct node *n, struct devices *d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"cores", "memory"};
    struct node machine = member_of(n, "machine");
    int64_t cores = 0;
    if (!machine.o)
        return OK;
    if (check_keys(&machine, known, err) ||
        read_int(&machine, "cores", (struct bounds){1, 65536}, &cores, err) ||
        read_bytes(&machine, "memory", &d->memory_bytes, err))
        return err->code;
    d->num_cores = (uint32_t)cores;
    return OK;
}

static enum errc read_driver(const struct node *n, struct devices *d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"version", "cuda"};
    struct node driver = member_of(n, "driver");
    if (!driver.o)
        return OK;
    if (check_keys(&driver, known, err) ||
        read_text(&driver, "version", d->driver_version, sizeof(d->driver_version), err))
        return err->code;
    return read_version(&driver, "cuda", &d->cuda_major, &d->cuda_minor, err);
}

static enum errc load(const char *path, json_t **ret_doc, struct error *err) {
    AUTO_BUF text = BUF_INIT;
    FILE *f = fopen(path, "re");
    char chunk[4096];
    size_t n;
    if (!f)
        return err_errno(err, "open %s", path);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0 && text.len <= DEVICES_FILE_BYTES_MAX)
        buf_append(&text, chunk, n);
    bool bad = ferror(f);
    int why = errno;
    fclose(f);
    errno = why;
    if (bad)
        return err_errno(err, "read %s", path);
    if (text.len > DEVICES_FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%s: larger than %d bytes", path,
                       DEVICES_FILE_BYTES_MAX);
    if (yaml_parse(text.data ? text.data : "", text.len, ret_doc, err))
        return err_wrap(err, "%s", path);
    return OK;
}

enum errc devices_file_read(const char *path, struct devices **ret_d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"machine", "driver", "gpus", "sharing"};
    json_t *doc = NULL;
    if (load(path, &doc, err))
        return err->code;
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct node root = {.o = doc};
    d->source = DEVICES_FAKED;
    if (check_keys(&root, known, err) || read_machine(&root, d, err) ||
        read_driver(&root, d, err) || read_gpus(&root, d, err) || read_sharing(&root, d, err)) {
        json_decref(doc);
        return err_wrap(err, "%s", path);
    }
    json_decref(doc);
    devices_settle(d);
    *ret_d = steal(d);
    return OK;
}

enum errc devices_file_read_sharing(const char *path, struct devices *d, struct error *err) {
    static const char *const known[FIELD_NAMES_MAX] = {"version", "sharing"};
    json_t *doc = NULL;
    if (load(path, &doc, err))
        return err->code;
    AUTO(devices) read = mem_alloc(sizeof(*read));
    struct node root = {.o = doc};
    char version[16] = "";
    enum errc rc = check_keys(&root, known, err);
    if (!rc)
        rc = read_text(&root, "version", version, sizeof(version), err);
    if (!rc && strcmp(version, "v1") != 0)
        rc = wrong(&root, "version", "is not v1", err);
    if (!rc)
        rc = read_sharing(&root, read, err);
    json_decref(doc);
    if (rc)
        return err_wrap(err, "%s", path);
    memcpy(d->sharing, read->sharing, sizeof(d->sharing));
    d->num_sharing = read->num_sharing;
    return OK;
}
