/* Pod logs over HTTP: one request reads one run of one container, as text, and may follow it.
 *
 * Which run: the current one is restartCount, --previous the one before. A container that never ran
 * has no log; the answer says what it waits for, in the kubelet's words. */
#include "kube-compat/podlog_stream.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/rest.h"
#include "kube-compat/stream.h"

enum { CHUNK_BYTES = 64 << 10 };

struct log {
    struct podlog_reader *reader;
    struct buf pending;
    bool ended;
};

static void log_destroy(void *user) {
    struct log *l = user;
    podlog_reader_close(l->reader);
    buf_deinit(&l->pending);
    free(l);
}

static bool pump(struct stream *s, void *user, int64_t now_ms) {
    struct log *l = user;
    for (;;) {
        if (l->pending.len) {
            if (!stream_write(s, l->pending.data, l->pending.len))
                return false;
            buf_deinit(&l->pending);
        }
        if (l->ended)
            return true;
        l->ended = !podlog_reader_next(l->reader, CHUNK_BYTES, &l->pending);
        if (!l->pending.len && !l->ended)
            return false;
    }
}

static void note_more(void *user) {
    stream_wake(user);
}

/* The container that the query names, or the only one. */
static enum errc choose_container(struct request *rq, const json_t *pod, const char **ret_name,
                                  struct error *err) {
    const json_t *containers = object_at(pod, "spec.containers");
    const char *wanted = http_query(rq->x, "container");
    if (wanted && *wanted) {
        if (!object_find_named(containers, wanted) &&
            !object_find_named(object_at(pod, "spec.initContainers"), wanted))
            return err_set(err, ERR_MALFORMED, "container %s is not valid for pod %s", wanted,
                           rq->name);
        *ret_name = wanted;
        return OK;
    }
    *ret_name = object_str(json_array_get(containers, 0), "name");
    if (json_array_size(containers) == 1 && *ret_name)
        return OK;
    AUTO_BUF names = BUF_INIT;
    for (size_t i = 0; i < json_array_size(containers); i++)
        buf_printf(&names, "%s%s", i ? " " : "", object_str(json_array_get(containers, i), "name"));
    return err_set(err, ERR_MALFORMED,
                   "a container name must be specified for pod %s, choose one of: [%s]", rq->name,
                   names.data ? names.data : "");
}

static const json_t *container_status(const json_t *pod, const char *container) {
    const json_t *s = object_find_named(object_at(pod, "status.containerStatuses"), container);
    return s ? s : object_find_named(object_at(pod, "status.initContainerStatuses"), container);
}

static enum errc read_number(struct request *rq, const char *name, int64_t otherwise,
                             int64_t *ret_value, struct error *err) {
    const char *text = http_query(rq->x, name);
    *ret_value = otherwise;
    if (!text || !*text)
        return OK;
    char *end;
    errno = 0;
    *ret_value = strtoll(text, &end, 10);
    if (!*end && !errno && *ret_value >= 0)
        return OK;
    cause_add(rq->causes, CAUSE_INVALID, name,
              "Invalid value: \"%.64s\": must be greater than or equal to 0", text);
    return err_set(err, ERR_INVALID, "PodLogOptions is invalid");
}

static enum errc read_options(struct request *rq, struct podlog_read_options *opt,
                              struct error *err) {
    int64_t since;
    *opt = (struct podlog_read_options){
        .timestamps = http_query_bool(rq->x, "timestamps"),
        .follow = http_query_bool(rq->x, "follow"),
    };
    enum errc code = read_number(rq, "tailLines", -1, &opt->tail_lines, err);
    if (!code)
        code = read_number(rq, "limitBytes", -1, &opt->limit_bytes, err);
    if (!code)
        code = read_number(rq, "sinceSeconds", 0, &since, err);
    if (code)
        return code;
    if (since > 0)
        opt->since_wall_ms = clock_wall_ms() - (since > INT32_MAX ? INT32_MAX : since) * 1000;
    const char *time = http_query(rq->x, "sinceTime");
    if (!time || !*time)
        return OK;
    opt->since_wall_ms = clock_parse_rfc3339(time);
    if (opt->since_wall_ms >= 0)
        return OK;
    cause_add(rq->causes, CAUSE_INVALID, "sinceTime",
              "Invalid value: \"%.64s\": must be a time in RFC 3339 form", time);
    return err_set(err, ERR_INVALID, "PodLogOptions is invalid");
}

static enum errc no_log(const struct request *rq, const json_t *status, const char *container,
                        bool previous, struct error *err) {
    if (previous)
        return err_set(err, ERR_MALFORMED,
                       "previous terminated container \"%s\" in pod \"%s\" not found", container,
                       rq->name);
    const char *reason = object_str(status, "state.waiting.reason");
    return err_set(err, ERR_MALFORMED, "container \"%s\" in pod \"%s\" is waiting to start: %s",
                   container, rq->name, reason ? reason : "ContainerCreating");
}

static enum errc open_reader(struct request *rq, struct log *l, struct error *err) {
    AUTO(store_object) pod = NULL;
    const char *container = NULL;
    struct podlog_read_options opt;
    enum errc code = rest_read(rq, &pod, err);
    if (!code)
        code = choose_container(rq, pod->json, &container, err);
    if (!code)
        code = read_options(rq, &opt, err);
    if (code)
        return code;
    const json_t *status = container_status(pod->json, container);
    int64_t restarts = object_int(status, "restartCount", 0);
    bool previous = http_query_bool(rq->x, "previous");
    if (previous && restarts == 0)
        return no_log(rq, status, container, true, err);
    struct podlog_source source = {
        .ns = rq->ns,
        .pod = rq->name,
        .uid = object_uid(pod->json),
        .container = container,
        .restart = (uint32_t)(previous ? restarts - 1 : restarts),
    };
    if (!rq->kube->opt.podlog)
        return no_log(rq, status, container, previous, err);
    code = podlog_reader_open(rq->kube->opt.podlog, &source, &opt, &l->reader, err);
    /* Between two runs the newest log is the one that just ended. */
    if (code == ERR_NOT_FOUND && !previous && source.restart > 0) {
        source.restart--;
        code = podlog_reader_open(rq->kube->opt.podlog, &source, &opt, &l->reader, err);
    }
    return code == ERR_NOT_FOUND ? no_log(rq, status, container, previous, err) : code;
}

void podlog_stream_start(struct request *rq) {
    struct error err = ERROR_INIT;
    struct stream *s = NULL;
    struct log *l = mem_alloc(sizeof(*l));
    enum errc code = open_reader(rq, l, &err);
    if (!code)
        code = stream_create(rq->kube->hub, &s, &err);
    if (code) {
        log_destroy(l);
        request_fail(rq, &err);
        return;
    }
    podlog_reader_on_more(l->reader, note_more, s);
    struct stream_source source = {.pump = pump, .destroy = log_destroy, .user = l};
    stream_start(s, rq->x, "text/plain", &source);
}
