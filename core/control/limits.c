/* LimitRanger. Defaults first, range by range: what one range gave, the next finds given. Then the
 * bounds, all of them, so that a user reads at once everything that is wrong.
 * Source: kubernetes/plugin/pkg/admission/limitranger (behaviour, texts). */
#include "core/control/limits.h"

#include <stdio.h>

#include "core/base/buf.h"
#include "core/object.h"
#include "core/quantity.h"

static const char ANNOTATION[] = "kubernetes.io/limit-ranger";
static const char ANNOTATION_PREFIX[] = "LimitRanger plugin set: ";

static bool is_type(const json_t *item, const char *type) {
    const char *has = object_str(item, "type");
    return has && !strcmp(has, type);
}

/* Defaults. */

/* Fills resources.FIELD from `defaults` and tells what was set: "cpu, memory limit for container
 * c". */
static void fill(json_t *container, const char *field, const json_t *defaults, const char *word,
                 const char *role, struct buf *told) {
    AUTO_BUF names = BUF_INIT;
    const char *name, *container_name = object_str(container, "name");
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)defaults, name, value) {
        json_t *resources = json_object_get(container, "resources");
        if (!json_is_object(resources))
            json_object_set_new(container, "resources", resources = json_object());
        json_t *list = json_object_get(resources, field);
        if (!json_is_object(list))
            json_object_set_new(resources, field, list = json_object());
        if (json_object_get(list, name))
            continue;
        json_object_set(list, name, value);
        buf_printf(&names, "%s%s", names.len ? ", " : "", name);
    }
    if (names.len)
        buf_printf(told, "%s%s %s for %s %s", told->len ? "; " : "", names.data, word, role,
                   container_name ? container_name : "");
}

void limits_default(const json_t *limit_range, json_t *pod) {
    static const char *const lists[][2] = {{"spec.containers", "container"},
                                           {"spec.initContainers", "init container"}};
    AUTO_BUF told = BUF_INIT;
    json_t *item, *container;
    size_t l, i;
    json_array_foreach (object_at(limit_range, "spec.limits"), l, item) {
        if (!is_type(item, "Container"))
            continue;
        for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
            json_array_foreach (object_at(pod, lists[k][0]), i, container) {
                fill(container, "requests", json_object_get(item, "defaultRequest"), "request",
                     lists[k][1], &told);
                fill(container, "limits", json_object_get(item, "default"), "limit", lists[k][1],
                     &told);
            }
        }
    }
    if (!told.len)
        return;
    json_t *annotations = object_at(pod, "metadata.annotations");
    if (!json_is_object(annotations))
        object_set(pod, "metadata.annotations", annotations = json_object());
    const char *was = json_string_value(json_object_get(annotations, ANNOTATION));
    json_object_set_new(
        annotations, ANNOTATION,
        json_sprintf("%s%s%s", was ? was : ANNOTATION_PREFIX, was ? "; " : "", told.data));
}

/* Bounds. */

struct amount {
    bool given;
    int64_t milli;
};

struct check {
    const char *type, *resource;
    const json_t *bound;
    struct amount request, limit;
    struct buf *errors;
    size_t num_errors;
};

static int64_t add(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static struct amount amount_of(const json_t *container, const char *field, const char *resource) {
    struct amount a = {0};
    const json_t *list = json_object_get(json_object_get(container, "resources"), field);
    const json_t *value = json_object_get(list, resource);
    a.given = value && quantity_milli(value, &a.milli);
    return a;
}

bool limits_of_pod(const json_t *pod, const char *field, const char *resource, int64_t *ret_milli) {
    bool given = false;
    size_t i;
    json_t *c;
    *ret_milli = 0;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        struct amount a = amount_of(c, field, resource);
        given = given || a.given;
        *ret_milli = add(*ret_milli, a.milli);
    }
    json_array_foreach (object_at(pod, "spec.initContainers"), i, c) {
        struct amount a = amount_of(c, field, resource);
        given = given || a.given;
        *ret_milli = a.milli > *ret_milli ? a.milli : *ret_milli;
    }
    return given;
}

static void tell(struct check *c, const char *fmt, ...) PRINTF(2, 3);
static void tell(struct check *c, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    buf_printf(c->errors, "%s%s", c->num_errors++ ? ", " : "", text);
}

/* As a user would write it: 100m, 2, 1Gi where it comes out even. */
static const char *shown(const struct check *c, int64_t milli, char out[QUANTITY_BYTES_MAX]) {
    char text[QUANTITY_BYTES_MAX];
    bool binary = strstr(c->resource, "memory") || strstr(c->resource, "storage");
    if (binary && milli && milli % (1024 * 1000) == 0)
        snprintf(text, sizeof(text), "%lldKi", (long long)(milli / 1024000));
    else
        snprintf(text, sizeof(text), "%lldm", (long long)milli);
    if (quantity_canonical(text, out))
        snprintf(out, QUANTITY_BYTES_MAX, "%s", text);
    return out;
}

static const char *bound_text(const struct check *c) {
    return json_string_value(c->bound) ? json_string_value(c->bound) : "";
}

static void check_min(struct check *c, int64_t bound) {
    char text[QUANTITY_BYTES_MAX];
    if (!c->request.given)
        tell(c, "minimum %s usage per %s is %s.  No request is specified", c->resource, c->type,
             bound_text(c));
    else if (c->request.milli < bound)
        tell(c, "minimum %s usage per %s is %s, but request is %s", c->resource, c->type,
             bound_text(c), shown(c, c->request.milli, text));
    else if (c->limit.given && c->limit.milli < bound)
        tell(c, "minimum %s usage per %s is %s, but limit is %s", c->resource, c->type,
             bound_text(c), shown(c, c->limit.milli, text));
}

static void check_max(struct check *c, int64_t bound) {
    char text[QUANTITY_BYTES_MAX];
    if (!c->limit.given)
        tell(c, "maximum %s usage per %s is %s.  No limit is specified", c->resource, c->type,
             bound_text(c));
    else if (c->limit.milli > bound)
        tell(c, "maximum %s usage per %s is %s, but limit is %s", c->resource, c->type,
             bound_text(c), shown(c, c->limit.milli, text));
    else if (c->request.given && c->request.milli > bound)
        tell(c, "maximum %s usage per %s is %s, but request is %s", c->resource, c->type,
             bound_text(c), shown(c, c->request.milli, text));
}

static void check_ratio(struct check *c, int64_t bound) {
    static const char what[] = "max limit to request ratio per";
    if (!c->request.given || !c->request.milli)
        tell(c, "%s %s %s is %s, but no request is specified or request is 0", c->resource, what,
             c->type, bound_text(c));
    else if (!c->limit.given || !c->limit.milli)
        tell(c, "%s %s %s is %s, but no limit is specified or limit is 0", c->resource, what,
             c->type, bound_text(c));
    else if ((double)c->limit.milli / (double)c->request.milli > (double)bound / 1000)
        tell(c, "%s %s %s is %s, but provided ratio is %f", c->resource, what, c->type,
             bound_text(c), (double)c->limit.milli / (double)c->request.milli);
}

/* One container, or all of the pod together (container NULL), against an item of the range. */
static void check_item(struct check *c, const json_t *item, const json_t *pod,
                       const json_t *container) {
    static const struct {
        const char *member;
        void (*check)(struct check *c, int64_t bound);
    } rows[] = {{"min", check_min}, {"max", check_max}, {"maxLimitRequestRatio", check_ratio}};
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        const char *resource;
        json_t *value;
        json_object_foreach (json_object_get(item, rows[r].member), resource, value) {
            int64_t bound;
            if (!quantity_milli(value, &bound))
                continue;
            c->resource = resource;
            c->bound = value;
            if (container) {
                c->request = amount_of(container, "requests", resource);
                c->limit = amount_of(container, "limits", resource);
            } else {
                c->request.given = limits_of_pod(pod, "requests", resource, &c->request.milli);
                c->limit.given = limits_of_pod(pod, "limits", resource, &c->limit.milli);
            }
            rows[r].check(c, bound);
        }
    }
}

enum errc limits_check(const json_t *limit_range, const json_t *pod, struct error *err) {
    AUTO_BUF errors = BUF_INIT;
    struct check c = {.errors = &errors};
    json_t *item, *container;
    size_t l, i;
    json_array_foreach (object_at(limit_range, "spec.limits"), l, item) {
        c.type = object_str(item, "type");
        if (is_type(item, "Pod"))
            check_item(&c, item, pod, NULL);
        if (!is_type(item, "Container"))
            continue;
        json_array_foreach (object_at(pod, "spec.initContainers"), i, container)
            check_item(&c, item, pod, container);
        json_array_foreach (object_at(pod, "spec.containers"), i, container)
            check_item(&c, item, pod, container);
    }
    if (!c.num_errors)
        return OK;
    return err_set(err, ERR_FORBIDDEN, c.num_errors > 1 ? "[%s]" : "%s", errors.data);
}
