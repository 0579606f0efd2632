/* The whole dialect over real HTTP, in one process: store, pod logs, server, and a client made of a
 * socket. What kubectl does with it is tests/kubectl_dialect.sh; here are the answers that kubectl
 * never asks for, the bounds, and the streams. */
#include "kube-compat/kube.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/base64.h"
#include "core/base/clock.h"
#include "core/object.h"
#include "kube-compat/stream.h"

enum { PATIENCE_MS = 20000 };

static struct {
    char dir[64];
    struct store *store;
    struct podlog *podlog;
    struct kube *kube;
    struct http_server *server;
    int port;
} env;

struct answer {
    int status;
    struct buf head, body;
    json_t *json; /* NULL: the body is none */
};

static void answer_deinit(struct answer *a) {
    buf_deinit(&a->head);
    buf_deinit(&a->body);
    json_decref(a->json);
}
#define AUTO_ANSWER __attribute__((cleanup(answer_deinit))) struct answer

static void put_namespace(const char *name) {
    char key[128];
    snprintf(key, sizeof(key), "core/namespaces/-/%s", name);
    struct error err = ERROR_INIT;
    json_t *o =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
                  "metadata", "name", name, "uid", name, "status", "phase", "Active");
    assert_int_equal(store_put(env.store, key, o, STORE_EXPECT_ANY, NULL, &err), OK);
}

static int start(void **state) {
    snprintf(env.dir, sizeof(env.dir), "/tmp/kube-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    char db[96], logs[96];
    snprintf(db, sizeof(db), "%s/state.db", env.dir);
    snprintf(logs, sizeof(logs), "%s/logs", env.dir);
    struct error err = ERROR_INIT;
    const struct store_options store_options = {
        .path = db, .history_events_max = 200, .compact_interval_seconds = 1};
    const struct podlog_options podlog_options = {
        .dir = logs, .file_bytes_max = 1 << 20, .num_files_max = 2};
    assert_int_equal(store_open(&store_options, &env.store, &err), OK);
    assert_int_equal(podlog_create(&podlog_options, &env.podlog, &err), OK);
    const struct kube_options kube_options = {
        .store = env.store, .podlog = env.podlog, .server_address = "127.0.0.1:6443"};
    if (kube_create(&kube_options, &env.kube, &err))
        fail_msg("%s", err.text);
    const struct http_server_options http_options = {.listen = "127.0.0.1:0",
                                                     .handler = kube_handle,
                                                     .user = env.kube,
                                                     .error_body = kube_error_body};
    if (http_server_start(&http_options, &env.server, &err))
        fail_msg("%s", err.text);
    env.port = (int)strtol(strrchr(http_server_address(env.server), ':') + 1, NULL, 10);
    put_namespace("default");
    return 0;
}

static int stop(void **state) {
    http_server_stop(env.server);
    kube_destroy(env.kube);
    podlog_destroy(env.podlog);
    store_close(env.store);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", env.dir);
    return system(command);
}

static int connect_server(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)env.port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void send_all(int fd, const char *data, size_t len) {
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server has answered already and cut us off */
        data += n;
        len -= (size_t)n;
    }
}

static void send_request(int fd, const char *method, const char *path, const char *headers,
                         const char *body, size_t len) {
    AUTO_BUF head = BUF_INIT;
    buf_printf(&head,
               "%s %s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
               method, path, headers, len);
    send_all(fd, head.data, head.len);
    send_all(fd, body, len);
}

/* Reads until `until` is in the bytes, or the end when it is NULL. */
static void read_until(int fd, struct buf *out, const char *until) {
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
    while (!until || !out->len || !strstr(out->data, until)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_mono_ms();
        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) != 1)
            fail_msg("waited for \"%s\", have %s", until ? until : "the end",
                     out->len ? out->data : "nothing");
        char chunk[8192];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n <= 0) {
            if (until)
                fail_msg("the stream ended before \"%s\": %s", until, out->len ? out->data : "");
            return;
        }
        buf_append(out, chunk, (size_t)n);
    }
}

static void unchunk(struct buf *body) {
    AUTO_BUF plain = BUF_INIT;
    for (char *p = body->data; p && *p;) {
        char *text;
        size_t len = strtoul(p, &text, 16);
        if (!len || (size_t)(text + 2 - body->data) + len > body->len)
            break;
        buf_append(&plain, text + 2, len);
        p = text + 2 + len + 2;
    }
    buf_clear(body);
    buf_append(body, plain.data ? plain.data : "", plain.len);
}

static void request_with(const char *method, const char *path, const char *headers,
                         const char *body, size_t len, struct answer *a) {
    memset(a, 0, sizeof(*a));
    int fd = connect_server();
    send_request(fd, method, path, headers, body, len);
    AUTO_BUF all = BUF_INIT;
    read_until(fd, &all, NULL);
    close(fd);
    const char *end = all.data ? strstr(all.data, "\r\n\r\n") : NULL;
    if (!end)
        fail_msg("%s %s: no answer", method, path);
    buf_append(&a->head, all.data, (size_t)(end - all.data));
    buf_append(&a->body, end + 4, all.len - (size_t)(end + 4 - all.data));
    if (strcasestr(a->head.data, "transfer-encoding: chunked"))
        unchunk(&a->body);
    a->status = (int)strtol(a->head.data + 9, NULL, 10);
    a->json = json_loadb(a->body.data ? a->body.data : "", a->body.len, 0, NULL);
}

static void request(const char *method, const char *path, const char *body, struct answer *a) {
    const char *patch =
        !strcmp(method, "PATCH") ? "application/merge-patch+json" : "application/json";
    char headers[96];
    snprintf(headers, sizeof(headers), "Content-Type: %s\r\n", patch);
    request_with(method, path, headers, body ? body : "", body ? strlen(body) : 0, a);
}

static void expect_status(const char *method, const char *path, const char *body, int status,
                          const char *reason) {
    AUTO_ANSWER a;
    request(method, path, body, &a);
    const char *got = object_str(a.json, "reason");
    if (a.status != status || (reason && (!got || strcmp(got, reason))))
        fail_msg("%s %s: %d %s", method, path, a.status, a.body.data);
}

#define CM     "/api/v1/namespaces/default/configmaps"
#define DEPLOY "/apis/apps/v1/namespaces/default/deployments"
#define ISVC   "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"

/* kubectl: "The request is invalid: MESSAGE", which it leaves out when an object is named. */
static void a_refusal_without_causes_names_no_object(void **state) {
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"tested\"},\"data\":{\"k\":\"v\"}}", 201,
                  NULL);
    AUTO_ANSWER a;
    const char *patch = "[{\"op\":\"test\",\"path\":\"/data/k\",\"value\":\"w\"}]";
    request_with("PATCH", CM "/tested", "Content-Type: application/json-patch+json\r\n", patch,
                 strlen(patch), &a);
    assert_int_equal(a.status, 422);
    assert_non_null(object_str(a.json, "message"));
    assert_null(object_at(a.json, "details.name"));
    assert_null(object_at(a.json, "details.kind"));
    expect_status("DELETE", CM "/tested", NULL, 200, NULL);
}

static void ugly_bodies_are_refused(void **state) {
    AUTO_BUF deep = BUF_INIT;
    for (int i = 0; i < 20000; i++)
        buf_puts(&deep, "{\"a\":");
    expect_status("POST", CM, deep.data, 400, "BadRequest");
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"\xff\xfe\"}}", 400, "BadRequest");
    expect_status("POST", CM, "{", 400, "BadRequest");
    expect_status("POST", CM, "[]", 400, "BadRequest");
    expect_status("POST", CM, "{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}", 400, "BadRequest");
    AUTO_BUF large = BUF_INIT;
    buf_puts(&large, "{\"metadata\":{\"name\":\"large\"},\"data\":{\"a\":\"");
    for (int i = 0; i < 3300; i++)
        buf_printf(&large, "%01000d", 0);
    buf_puts(&large, "\"}}");
    expect_status("POST", CM, large.data, 413, "RequestEntityTooLarge");
    expect_status("POST", CM, "{\"metadata\":{}}", 422, "Invalid");
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"A_\"}}", 422, "Invalid");
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":1}}", 400,
                  "BadRequest");
    AUTO_ANSWER a;
    request_with("POST", CM, "Content-Type: text/html\r\n", "x", 1, &a);
    assert_int_equal(a.status, 415);
    AUTO_ANSWER b;
    request_with("POST", CM, "Content-Type: application/vnd.kubernetes.protobuf\r\n", "k8s", 3, &b);
    assert_int_equal(b.status, 400);
}

/* Every part of an object as every wrong type: a refusal that names the field, and no crash. */
static void wrong_types_are_named(void **state) {
    static const char *const wrong[] = {"5",   "\"x\"",      "[]",   "{}",
                                        "[5]", "{\"x\":[]}", "true", "null"};
    static const struct {
        const char *path, *format; /* with %s where the wrong value goes */
    } places[] = {
        {CM, "{\"metadata\":{\"name\":\"t\",\"labels\":%s}}"},
        {CM, "{\"metadata\":{\"name\":\"t\",\"finalizers\":%s}}"},
        {CM, "{\"metadata\":{\"name\":%s}}"},
        {CM, "{\"metadata\":%s}"},
        {CM, "{\"metadata\":{\"name\":\"t\"},\"data\":%s}"},
        {"/api/v1/namespaces/default/pods", "{\"metadata\":{\"name\":\"t\"},\"spec\":%s}"},
        {"/api/v1/namespaces/default/pods",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"containers\":%s}}"},
        {"/api/v1/namespaces/default/pods",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":"
         "\"b\",\"resources\":%s}]}}"},
        {"/api/v1/namespaces/default/services", "{\"metadata\":{\"name\":\"t\"},\"spec\":%s}"},
        {"/api/v1/namespaces/default/secrets", "{\"metadata\":{\"name\":\"t\"},\"stringData\":%s}"},
        {"/apis/apps/v1/namespaces/default/deployments",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"selector\":%s,\"template\":{}}}"},
        {"/apis/apps/v1/namespaces/default/deployments",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"selector\":{},\"strategy\":%s}}"},
        {ISVC, "{\"apiVersion\":\"serving.kserve.io/v1beta1\",\"kind\":\"InferenceService\","
               "\"metadata\":{\"name\":\"t\"},\"spec\":{\"predictor\":{\"containers\":%s}}}"},
    };
    size_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        for (size_t j = 0; j < ARRAY_LEN(wrong); j++) {
            AUTO_BUF body = BUF_INIT;
            const char *hole = strstr(places[i].format, "%s");
            buf_append(&body, places[i].format, (size_t)(hole - places[i].format));
            buf_printf(&body, "%s%s", wrong[j], hole + 2);
            AUTO_ANSWER a;
            request("POST", places[i].path, body.data, &a);
            if (a.status != 201 && a.status != 400 && a.status != 422)
                fail_msg("%s: %d", body.data, a.status);
            refused += a.status != 201;
            if (a.status != 201)
                continue;
            char path[256];
            snprintf(path, sizeof(path), "%s/%s", places[i].path, object_name(a.json));
            AUTO_ANSWER gone;
            request("DELETE", path, NULL, &gone);
            AUTO_ANSWER released; /* a finalizer that happened to be valid */
            request("PATCH", path, "{\"metadata\":{\"finalizers\":null}}", &released);
        }
    }
    assert_true(refused > ARRAY_LEN(places) * ARRAY_LEN(wrong) / 2);
}

static void json_patch_operations_are_bounded(void **state) {
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"ops\"}}", 201, NULL);
    AUTO_BUF ops = BUF_INIT;
    for (int i = 0; i <= 10000; i++)
        buf_printf(&ops, "%s{\"op\":\"add\",\"path\":\"/data\",\"value\":{}}", i ? "," : "[");
    buf_puts(&ops, "]");
    AUTO_ANSWER a;
    request_with("PATCH", CM "/ops", "Content-Type: application/json-patch+json\r\n", ops.data,
                 ops.len, &a);
    assert_int_equal(a.status, 413);
    AUTO_ANSWER b;
    const char *failing = "[{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"no\"}]";
    request_with("PATCH", CM "/ops", "Content-Type: application/json-patch+json\r\n", failing,
                 strlen(failing), &b);
    assert_int_equal(b.status, 422);
}

/* Strict refuses a key that stands twice, Warn tells, Ignore keeps quiet; in every verb. */
static void keys_that_stand_twice_are_told_by_every_verb(void **state) {
    static const char told[] = "duplicate field \\\"data.a\\\"";
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"twice\"}}", 201, NULL);
    static const char *const verbs[][3] = {
        {"POST", CM, "{\"metadata\":{\"generateName\":\"t\"},\"data\":{\"a\":\"1\",\"a\":\"2\"}}"},
        {"PUT", CM "/twice",
         "{\"metadata\":{\"name\":\"twice\"},\"data\":{\"a\":\"1\",\"a\":\"2\"}}"},
        {"PATCH", CM "/twice", "{\"data\":{\"a\":\"1\",\"a\":\"2\"}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        static const char *const levels[] = {"Strict", "Warn", "Ignore"};
        for (size_t level = 0; level < ARRAY_LEN(levels); level++) {
            char path[256];
            snprintf(path, sizeof(path), "%s?fieldValidation=%s", verbs[i][1], levels[level]);
            AUTO_ANSWER a;
            request(verbs[i][0], path, verbs[i][2], &a);
            assert_int_equal(a.status, level == 0 ? 400 : i == 0 ? 201 : 200);
            assert_int_equal(strstr(a.body.data, told) != NULL, level == 0);
            assert_int_equal(strstr(a.head.data, told) != NULL, level == 1);
        }
    }
}

static void unknown_places_and_methods(void **state) {
    expect_status("GET", "/nothing", NULL, 404, "NotFound");
    expect_status("GET", "/apis/no.such/v1", NULL, 404, "NotFound");
    expect_status("GET", "/api/v1/namespaces/default/no", NULL, 404, "NotFound");
    expect_status("GET", CM "/absent", NULL, 404, "NotFound");
    expect_status("GET", CM "/a/b/c/d", NULL, 404, "NotFound");
    expect_status("PATCH", "/api/v1/namespaces/default/pods/x/ephemeralcontainers", NULL, 405,
                  "MethodNotAllowed");
    expect_status("POST", "/api/v1/namespaces/default/pods/x/binding", "{}", 405,
                  "MethodNotAllowed");
    AUTO_ANSWER paths;
    request("GET", "/", NULL, &paths);
    assert_int_equal(paths.status, 200);
    AUTO_FREE char *listed = json_dumps(paths.json, JSON_COMPACT);
    assert_non_null(strstr(listed, "\"/api/v1\",\"/apis\",\"/apis/"));
    assert_non_null(strstr(listed, "\"/apis/apps/v1\""));
    expect_status("PUT", CM, "{}", 405, "MethodNotAllowed");
    expect_status("POST", CM "/x", "{}", 405, "MethodNotAllowed");
    expect_status("POST", "/api/v1/namespaces/absent/configmaps", "{\"metadata\":{\"name\":\"a\"}}",
                  404, "NotFound");
    expect_status("GET", CM "?labelSelector=a%3D%3D%3Db", NULL, 400, "BadRequest");
    expect_status("GET", CM "?fieldSelector=data.x%3Db", NULL, 400, "BadRequest");
    expect_status("GET", CM "?limit=x", NULL, 400, "BadRequest");
    expect_status("GET", CM "?continue=x", NULL, 400, "BadRequest");
    expect_status("GET", CM "?resourceVersion=99999999", NULL, 504, "Timeout");
    expect_status("GET", CM "?watch=1&sendInitialEvents=true", NULL, 422, "Invalid");
    expect_status("POST", CM "?dryRun=x", "{\"metadata\":{\"name\":\"a\"}}", 422, "Invalid");
    AUTO_ANSWER a;
    request_with("GET", CM, "Accept: application/json;as=Table;v=v9;g=meta.k8s.io\r\n", "", 0, &a);
    assert_int_equal(a.status, 406);
    expect_status("GET", "/readyz", NULL, 200, NULL);
}

static void versions_and_generations(void **state) {
    const char *body =
        "{\"apiVersion\":\"serving.kserve.io/v1beta1\",\"kind\":\"InferenceService\","
        "\"metadata\":{\"name\":\"v\"},\"spec\":{\"predictor\":{\"minReplicas\":1}},"
        "\"status\":{\"url\":\"forged\"}}";
    AUTO_ANSWER a, b, c, d;
    request("POST", ISVC, body, &a);
    assert_int_equal(a.status, 201);
    assert_null(object_at(a.json, "status"));
    assert_int_equal(object_int(a.json, "metadata.generation", 0), 1);
    const char *rv = object_str(a.json, "metadata.resourceVersion");
    request("PATCH", ISVC "/v", "{\"spec\":{\"predictor\":{\"minReplicas\":1}}}", &b);
    assert_string_equal(object_str(b.json, "metadata.resourceVersion"), rv);
    request("PATCH", ISVC "/v/status",
            "{\"status\":{\"url\":\"u\"},\"spec\":{\"predictor\":{"
            "\"minReplicas\":7}},\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
            &c);
    assert_string_equal(object_str(c.json, "status.url"), "u");
    assert_int_equal(object_int(c.json, "spec.predictor.minReplicas", 0), 1);
    assert_null(object_label(c.json, "a"));
    assert_int_equal(object_int(c.json, "metadata.generation", 0), 1);
    request("PATCH", ISVC "/v", "{\"spec\":{\"predictor\":{\"minReplicas\":2}},\"status\":null}",
            &d);
    assert_int_equal(object_int(d.json, "metadata.generation", 0), 2);
    assert_string_equal(object_str(d.json, "status.url"), "u");
    expect_status("PUT", ISVC "/v", body, 422, "Invalid"); /* no resourceVersion */
    AUTO_BUF stale = BUF_INIT;
    buf_printf(&stale, "{\"metadata\":{\"resourceVersion\":\"%s\",\"labels\":{\"a\":\"b\"}}}", rv);
    expect_status("PATCH", ISVC "/v", stale.data, 409, "Conflict");
    expect_status("POST", ISVC, body, 409, "AlreadyExists");
    expect_status("DELETE", ISVC "/v", "{\"preconditions\":{\"uid\":\"other\"}}", 409, "Conflict");
    expect_status("DELETE", ISVC "/v", NULL, 200, NULL);
    expect_status("DELETE", ISVC "/v", NULL, 404, "NotFound");
}

static void scale_wants_a_number(void **state) {
    expect_status("POST", DEPLOY,
                  "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"replicas\":3,\"selector\":{"
                  "\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":"
                  "\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}",
                  201, NULL);
    expect_status("PATCH", DEPLOY "/s/scale", "[]", 400, "BadRequest");
    expect_status("PATCH", DEPLOY "/s/scale", "{\"spec\":5}", 400, "BadRequest");
    expect_status("PATCH", DEPLOY "/s/scale", "{\"spec\":{\"replicas\":\"x\"}}", 400, "BadRequest");
    expect_status("PATCH", DEPLOY "/s/scale", "{\"spec\":{\"replicas\":-1}}", 422, "Invalid");
    AUTO_ANSWER a, b;
    request("PATCH", DEPLOY "/s/scale", "{\"spec\":{\"replicas\":4}}", &a);
    assert_string_equal(object_str(a.json, "kind"), "Scale");
    assert_int_equal(object_int(a.json, "spec.replicas", 0), 4);
    request("GET", DEPLOY "/s", NULL, &b);
    assert_int_equal(object_int(b.json, "spec.replicas", 0), 4);
    assert_int_equal(object_int(b.json, "metadata.generation", 0), 2);
    expect_status("DELETE", DEPLOY "/s", NULL, 200, NULL);
}

static void lists_come_in_pages(void **state) {
    for (int i = 0; i < 5; i++) {
        char body[128];
        snprintf(body, sizeof(body),
                 "{\"metadata\":{\"name\":\"page-%d\",\"labels\":{\"paged\":\"yes\"}}}", i);
        expect_status("POST", CM, body, 201, NULL);
    }
    char path[512] = CM "?limit=2&labelSelector=paged";
    size_t seen = 0, pages = 0;
    for (;;) {
        AUTO_ANSWER a;
        request("GET", path, NULL, &a);
        assert_int_equal(a.status, 200);
        const json_t *items = json_object_get(a.json, "items");
        for (size_t i = 0; i < json_array_size(items); i++) {
            char want[16];
            snprintf(want, sizeof(want), "page-%zu", seen++);
            assert_string_equal(object_name(json_array_get(items, i)), want);
        }
        pages++;
        const char *next = object_str(a.json, "metadata.continue");
        if (!next)
            break;
        snprintf(path, sizeof(path), CM "?limit=2&labelSelector=paged&continue=%.300s", next);
    }
    assert_int_equal(seen, 5);
    assert_int_equal(pages, 3);
    AUTO_ANSWER gone;
    request("DELETE", CM "?labelSelector=paged", NULL, &gone);
    assert_int_equal(json_array_size(json_object_get(gone.json, "items")), 5);
}

static void expect_names(const struct answer *a, const char *want) {
    AUTO_BUF names = BUF_INIT;
    const json_t *items = json_object_get(a->json, "items");
    for (size_t i = 0; i < json_array_size(items); i++)
        buf_printf(&names, "%s%s", i ? " " : "", object_name(json_array_get(items, i)));
    if (a->status != 200 || !names.len || strcmp(names.data, want) != 0)
        fail_msg("%d %s, not %s", a->status, names.len ? names.data : a->body.data, want);
}

static void pages_and_exact_lists_are_of_one_revision(void **state) {
    put_namespace("pages");
#define PAGES "/api/v1/namespaces/pages/configmaps"
    for (char name = 'a'; name <= 'e'; name++) {
        char body[64];
        snprintf(body, sizeof(body), "{\"metadata\":{\"name\":\"%c\"}}", name);
        expect_status("POST", PAGES, body, 201, NULL);
    }
    AUTO_ANSWER first, second, exact, older, newest;
    request("GET", PAGES "?limit=2", NULL, &first);
    expect_names(&first, "a b");
    assert_int_equal(object_int(first.json, "metadata.remainingItemCount", 0), 3);
    const char *version = object_str(first.json, "metadata.resourceVersion");
    expect_status("DELETE", PAGES "/d", NULL, 200, NULL);
    expect_status("POST", PAGES, "{\"metadata\":{\"name\":\"cc\"}}", 201, NULL);
    expect_status("PATCH", PAGES "/c", "{\"data\":{\"a\":\"b\"}}", 200, NULL);
    char path[512];
    snprintf(path, sizeof(path), PAGES "?limit=9&continue=%s",
             object_str(first.json, "metadata.continue"));
    request("GET", path, NULL, &second);
    expect_names(&second, "c d e");
    assert_string_equal(object_str(second.json, "metadata.resourceVersion"), version);
    assert_null(object_at(second.json, "items.0.data"));
    assert_null(object_at(second.json, "metadata.continue"));
    snprintf(path, sizeof(path), PAGES "?resourceVersion=%s&resourceVersionMatch=Exact", version);
    request("GET", path, NULL, &exact);
    expect_names(&exact, "a b c d e");
    assert_string_equal(object_str(exact.json, "metadata.resourceVersion"), version);
    snprintf(path, sizeof(path), PAGES "?resourceVersion=%s&limit=9", version);
    request("GET", path, NULL, &older);
    expect_names(&older, "a b c d e");
    snprintf(path, sizeof(path), PAGES "?resourceVersion=%s", version);
    request("GET", path, NULL, &newest);
    expect_names(&newest, "a b c cc e");
}

static void bad_list_options_are_named(void **state) {
    static const struct {
        const char *query;
        int status;
        const char *says;
    } cases[] = {
        {"resourceVersionMatch=Exact", 422,
         "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: "
         "resourceVersionMatch is forbidden unless resourceVersion is provided"},
        {"resourceVersionMatch=Exact&resourceVersion=0", 422,
         "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""},
        {"resourceVersionMatch=Newest&resourceVersion=5", 422, "Unsupported value: \"Newest\""},
        {"sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"},
        {"resourceVersion=abc", 400, "invalid resource version"},
        {"resourceVersion=-4", 400, "invalid resource version"},
        {"limit=two", 400, "limit: Invalid value: \"two\""},
        {"continue=e30", 400, "does not recognize"},
        {"continue=%20", 400, "does not decode"},
        {"watch=1&resourceVersionMatch=NotOlderThan", 422,
         "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"},
        {"watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422,
         "Unsupported value: \"Exact\": supported values: \"NotOlderThan\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_ANSWER a;
        char path[256];
        snprintf(path, sizeof(path), CM "?%s", cases[i].query);
        request("GET", path, NULL, &a);
        if (a.status != cases[i].status || !strstr(object_str(a.json, "message"), cases[i].says))
            fail_msg("%s: %d %s", cases[i].query, a.status, a.body.data);
    }
}

static int open_watch(const char *path, struct buf *out) {
    int fd = connect_server();
    send_request(fd, "GET", path, "", "", 0);
    read_until(fd, out, "\r\n\r\n"); /* the head comes at once, also without events */
    return fd;
}

static void watches_see_what_a_selector_sees(void **state) {
    AUTO_BUF out = BUF_INIT;
    int fd = open_watch(CM "?watch=1&labelSelector=w%3D1", &out);
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"w\"}}", 201, NULL);
    expect_status("PATCH", CM "/w", "{\"metadata\":{\"labels\":{\"w\":\"1\"}}}", 200, NULL);
    read_until(fd, &out, "\"type\":\"ADDED\"");
    expect_status("PATCH", CM "/w", "{\"data\":{\"a\":\"b\"}}", 200, NULL);
    read_until(fd, &out, "\"type\":\"MODIFIED\"");
    expect_status("PATCH", CM "/w", "{\"metadata\":{\"labels\":null}}", 200, NULL);
    read_until(fd, &out, "\"type\":\"DELETED\"");
    close(fd);
    expect_status("DELETE", CM "/w", NULL, 200, NULL);
}

static void initial_events_end_with_a_marked_bookmark(void **state) {
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"initial\"}}", 201, NULL);
    AUTO_BUF out = BUF_INIT;
    int fd = open_watch(CM "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
                           "&allowWatchBookmarks=true&timeoutSeconds=1",
                        &out);
    read_until(fd, &out, "\"k8s.io/initial-events-end\":\"true\"");
    assert_true(strstr(out.data, "\"initial\"") < strstr(out.data, "initial-events-end"));
    read_until(fd, &out, NULL); /* timeoutSeconds ends it */
    close(fd);
    expect_status("DELETE", CM "/initial", NULL, 200, NULL);
}

static void lost_history_is_gone(void **state) {
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"busy\"}}", 201, NULL);
    enum { BATCHES = 20, BATCH = 256 }; /* more than the store keeps, in memory or on disk */
    for (int i = 0; i < BATCHES; i++) {
        struct store_write writes[BATCH];
        struct error err = ERROR_INIT;
        for (int j = 0; j < BATCH; j++)
            writes[j] = (struct store_write){
                .key = "core/configmaps/default/busy",
                .object =
                    json_pack("{s:s, s:s, s:{s:s}, s:{s:i}}", "apiVersion", "v1", "kind",
                              "ConfigMap", "metadata", "name", "busy", "data", "n", i * BATCH + j),
                .expect_revision = STORE_EXPECT_ANY};
        assert_int_equal(store_commit(env.store, writes, BATCH, NULL, &err), OK);
    }
    for (int64_t until = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < until;) {
        AUTO_ANSWER a; /* a watch until the store compacts, which it does every second here */
        request("GET", CM "?watch=1&resourceVersion=1&timeoutSeconds=1", NULL, &a);
        assert_int_equal(a.status, 200);
        if (strcmp(object_str(a.json, "type") ? object_str(a.json, "type") : "", "ERROR") != 0)
            continue;
        assert_int_equal(object_int(a.json, "object.code", 0), 410);
        assert_string_equal(object_str(a.json, "object.reason"), "Expired");
        assert_ptr_equal(
            strstr(object_str(a.json, "object.message"), "too old resource version: 1 ("),
            object_str(a.json, "object.message"));
        return;
    }
    fail_msg("history is never gone");
}

/* Follows the test above, whose history is gone. */
static void expired_lists_offer_a_way_on(void **state) {
    expect_status("GET", CM "?resourceVersion=1&resourceVersionMatch=Exact", NULL, 410, "Expired");
    expect_status("GET", CM "?resourceVersion=1&limit=5", NULL, 410, "Expired");
    expect_status("GET", CM "?resourceVersion=1&resourceVersionMatch=NotOlderThan", NULL, 200,
                  NULL);
    static const char text[] =
        "{\"v\":\"meta.k8s.io/v1\",\"rv\":1,\"start\":\"core/configmaps/default/a\"}";
    AUTO_BUF token = BUF_INIT;
    base64url_append(&token, text, sizeof(text) - 1);
    AUTO_ANSWER a, b;
    char path[512];
    snprintf(path, sizeof(path), CM "?continue=%s", token.data);
    request("GET", path, NULL, &a);
    assert_int_equal(a.status, 410);
    assert_non_null(strstr(object_str(a.json, "message"), "inconsistent list"));
    snprintf(path, sizeof(path), CM "?continue=%s", object_str(a.json, "metadata.continue"));
    request("GET", path, NULL, &b);
    assert_int_equal(b.status, 200);
    assert_string_equal(object_name(json_array_get(json_object_get(b.json, "items"), 0)), "busy");
}

static void *patch_many(void *user) {
    const char *name = user;
    for (int i = 0; i < 20; i++) {
        char body[96];
        snprintf(body, sizeof(body), "{\"data\":{\"%s%d\":\"x\"}}", name, i);
        AUTO_ANSWER a;
        request("PATCH", CM "/race", body, &a);
        if (a.status != 200)
            return a.head.data ? (void *)"failed" : (void *)"no answer";
    }
    return NULL;
}

static void racing_patches_lose_nothing(void **state) {
    expect_status("POST", CM, "{\"metadata\":{\"name\":\"race\"}}", 201, NULL);
    pthread_t threads[3];
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, patch_many, (void *)(uintptr_t)names[i]);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    AUTO_ANSWER a;
    request("GET", CM "/race", NULL, &a);
    assert_int_equal(json_object_size(json_object_get(a.json, "data")), 60);
}

static void put_pod(const char *name, int restarts) {
    char key[128];
    snprintf(key, sizeof(key), "core/pods/default/%s", name);
    json_t *o =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:s, s:[{s:s}]}, s:{s:[{s:s, s:i}]}}",
                  "apiVersion", "v1", "kind", "Pod", "metadata", "name", name, "namespace",
                  "default", "uid", "u1", "spec", "nodeName", "n", "containers", "name", "c",
                  "status", "containerStatuses", "name", "c", "restartCount", restarts);
    struct error err = ERROR_INIT;
    assert_int_equal(store_put(env.store, key, o, STORE_EXPECT_ANY, NULL, &err), OK);
}

/* Gives the write end of a container run's output. */
static int attach(const char *pod, uint32_t restart) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct podlog_source source = {
        .ns = "default", .pod = pod, .uid = "u1", .container = "c", .restart = restart};
    struct error err = ERROR_INIT;
    assert_int_equal(podlog_attach(env.podlog, &source, ends[0], -1, &err), OK);
    return ends[1];
}

#define LOG "/api/v1/namespaces/default/pods/talker/log"

static void logs_are_read_and_followed(void **state) {
    put_pod("talker", 0);
    expect_status("GET", LOG, NULL, 400, "BadRequest"); /* it never ran */
    expect_status("GET", LOG "?container=x", NULL, 400, "BadRequest");
    expect_status("GET", LOG "?tailLines=-1", NULL, 422, "Invalid");
    expect_status("GET", LOG "?previous=true", NULL, 400, "BadRequest");
    int out = attach("talker", 0);
    AUTO_BUF got = BUF_INIT;
    assert_int_equal(write(out, "one\ntwo\n", 8), 8);
    int fd = -1;
    for (int64_t until = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < until;) {
        AUTO_ANSWER a; /* until the first bytes made the file */
        request("GET", LOG, NULL, &a);
        if (a.status == 200 && a.body.len == 8)
            break;
    }
    fd = connect_server();
    send_request(fd, "GET", LOG "?follow=true&tailLines=1", "", "", 0);
    read_until(fd, &got, "two\n");
    assert_null(strstr(got.data, "one"));
    assert_int_equal(write(out, "three\n", 6), 6);
    read_until(fd, &got, "three\n");
    close(out);
    read_until(fd, &got, NULL); /* the run ended, so does following it */
    close(fd);
    put_pod("talker", 1);
    AUTO_ANSWER previous;
    request("GET", LOG "?previous=true&timestamps=true", NULL, &previous);
    assert_int_equal(previous.status, 200);
    assert_non_null(strstr(previous.body.data, "Z one\n"));
}

static void pods_on_a_node_end_gracefully(void **state) {
    put_pod("going", 0);
    AUTO_ANSWER a, b;
    request("DELETE", "/api/v1/namespaces/default/pods/going", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(object_str(a.json, "metadata.deletionTimestamp"));
    assert_int_equal(object_int(a.json, "metadata.deletionGracePeriodSeconds", -1), 30);
    expect_status("GET", "/api/v1/namespaces/default/pods/going", NULL, 200, NULL);
    request("DELETE", "/api/v1/namespaces/default/pods/going?gracePeriodSeconds=0", NULL, &b);
    assert_string_equal(object_str(b.json, "kind"), "Pod");
    expect_status("GET", "/api/v1/namespaces/default/pods/going", NULL, 404, "NotFound");
}

static void namespaces_wait_for_their_contents(void **state) {
    put_namespace("busyns");
    AUTO_ANSWER a;
    request("DELETE", "/api/v1/namespaces/busyns", NULL, &a);
    assert_string_equal(object_str(a.json, "status.phase"), "Terminating");
    expect_status("GET", "/api/v1/namespaces/busyns", NULL, 200, NULL);
    expect_status("POST", "/api/v1/namespaces/busyns/configmaps", "{\"metadata\":{\"name\":\"a\"}}",
                  403, "Forbidden");
    expect_status("DELETE", "/api/v1/namespaces/default", NULL, 403, "Forbidden");
}

static void streams_are_bounded(void **state) {
    AUTO(stream_hub) hub = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(stream_hub_create(NULL, NULL, &hub, &err), OK);
    struct stream **all = mem_array(STREAMS_MAX, sizeof(*all)), *more = NULL;
    for (size_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(stream_create(hub, &all[i], &err), OK);
    assert_int_equal(stream_create(hub, &more, &err), ERR_EXHAUSTED);
    assert_true(err.retry_after_seconds > 0);
    stream_discard(all[0]);
    assert_int_equal(stream_create(hub, &all[0], &err), OK);
    for (size_t i = 0; i < STREAMS_MAX; i++)
        stream_discard(all[i]);
    free(all);
}

static void events_have_two_spellings(void **state) {
    expect_status("POST", "/api/v1/namespaces/default/events",
                  "{\"metadata\":{\"name\":\"e.1\"},\"involvedObject\":{\"kind\":\"Pod\",\"name\":"
                  "\"p\",\"namespace\":\"default\"},\"message\":\"m\",\"reason\":\"R\"}",
                  201, NULL);
    AUTO_ANSWER a, b;
    request("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e.1", NULL, &a);
    assert_string_equal(object_str(a.json, "note"), "m");
    assert_string_equal(object_str(a.json, "regarding.name"), "p");
    assert_null(object_at(a.json, "involvedObject"));
    /* eventTime is required there: it is made, and writing back what was read changes nothing. */
    const char *time = object_str(a.json, "eventTime");
    assert_non_null(time);
    assert_string_equal(time + strlen("2026-11-24T12:00:00"), ".000000Z");
    AUTO_FREE char *same = json_dumps(a.json, JSON_COMPACT);
    AUTO_ANSWER put;
    request("PUT", "/apis/events.k8s.io/v1/namespaces/default/events/e.1", same, &put);
    assert_int_equal(put.status, 200);
    assert_string_equal(object_str(put.json, "metadata.resourceVersion"),
                        object_str(a.json, "metadata.resourceVersion"));
    request("GET", "/api/v1/events?fieldSelector=involvedObject.name%3Dp,involvedObject.kind%3DPod",
            NULL, &b);
    assert_int_equal(json_array_size(json_object_get(b.json, "items")), 1);
}

static void kinds_that_are_not_run_are_empty_and_refuse(void **state) {
    static const char jobs[] = "/apis/batch/v1/namespaces/default/jobs";
    AUTO_ANSWER list, refusal, group;
    request("GET", jobs, NULL, &list);
    assert_int_equal(list.status, 200);
    assert_string_equal(object_str(list.json, "kind"), "JobList");
    assert_int_equal(json_array_size(json_object_get(list.json, "items")), 0);
    request("POST", jobs, "{}", &refusal);
    assert_int_equal(refusal.status, 405);
    assert_string_equal(object_str(refusal.json, "message"),
                        "inferd does not run jobs.batch: a Pod with restartPolicy Never or "
                        "OnFailure runs once");
    expect_status("GET", "/apis/batch/v1/namespaces/default/jobs/x", NULL, 404, "NotFound");
    expect_status("DELETE", "/apis/batch/v1/namespaces/default/jobs/x", NULL, 404, "NotFound");
    request("GET", "/apis/batch/v1", NULL, &group);
    assert_int_equal(json_array_size(object_at(group.json, "resources.0.verbs")), 3);
}

static void autoscalers_have_two_versions(void **state) {
    static const char v2[] = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    static const char v1[] = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/a";
    AUTO_ANSWER made, seen, put, again;
    request("POST", v2,
            "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"scaleTargetRef\":{\"kind\":\"Deployment\","
            "\"name\":\"d\",\"apiVersion\":\"apps/v1\"},\"maxReplicas\":3}}",
            &made);
    assert_int_equal(made.status, 201);
    assert_int_equal(object_int(made.json, "spec.metrics.0.resource.target.averageUtilization", 0),
                     80);
    request("GET", v1, NULL, &seen);
    assert_string_equal(object_str(seen.json, "apiVersion"), "autoscaling/v1");
    assert_int_equal(object_int(seen.json, "spec.targetCPUUtilizationPercentage", 0), 80);
    object_set(seen.json, "spec.targetCPUUtilizationPercentage", json_integer(60));
    char *text = json_dumps(seen.json, JSON_COMPACT);
    request("PUT", v1, text, &put);
    free(text);
    assert_int_equal(put.status, 200);
    request("GET", "/apis/autoscaling/v2/horizontalpodautoscalers", NULL, &again);
    assert_int_equal(
        object_int(again.json, "items.0.spec.metrics.0.resource.target.averageUtilization", 0), 60);
    assert_int_equal(object_int(again.json, "items.0.status.desiredReplicas", -1), 0);
}

static void impersonation_takes_rights_away(void **state) {
    AUTO_ANSWER a, b, c, d;
    request_with("GET", CM, "Impersonate-User: bob\r\n", "", 0, &a);
    assert_int_equal(a.status, 403);
    assert_string_equal(object_str(a.json, "message"),
                        "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" "
                        "in API group \"\" in the namespace \"default\"");
    request_with("GET", CM, "Impersonate-User: bob\r\nImpersonate-Group: system:masters\r\n", "", 0,
                 &b);
    assert_int_equal(b.status, 200);
    request_with("GET", CM, "Impersonate-Group: system:masters\r\n", "", 0, &c);
    assert_int_equal(c.status, 400);
    request_with("GET", "/api", "Impersonate-User: system:anonymous\r\n", "", 0, &d);
    assert_int_equal(d.status, 403);
}

static void apply_with(const char *path, const char *body, int status, struct answer *a) {
    request_with("PATCH", path, "Content-Type: application/apply-patch+yaml\r\n", body,
                 strlen(body), a);
    if (a->status != status)
        fail_msg("apply %s: %d %s", path, a->status, a->body.data);
}

static void expect_apply(const char *path, const char *body, int status, const char *message) {
    AUTO_ANSWER a;
    apply_with(path, body, status, &a);
    const char *got = object_str(a.json, "message");
    if (message && (!got || !strstr(got, message)))
        fail_msg("apply %s: %s", path, a.body.data);
}

#define CONFIG(rest) "{apiVersion: v1, kind: ConfigMap, metadata: {name: applied}" rest "}"
#define APPLIED      CM "/applied?fieldManager=m"

static void server_side_apply_answers(void **state) {
    AUTO_ANSWER a, b, c;
    expect_apply(CM "/applied", CONFIG(""), 422,
                 "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value");
    expect_apply(APPLIED, "", 400, "an apply configuration is an object");
    expect_apply(APPLIED, "[1]", 400, "an apply configuration is an object");
    expect_apply(APPLIED, "{a: ", 400, NULL);
    expect_apply(APPLIED, "{apiVersion: v2, kind: ConfigMap, metadata: {name: applied}}", 400,
                 "Specified patch version: v2, expected: v1");
    expect_apply(APPLIED, "{apiVersion: v1, metadata: {name: applied}}", 400, "'Kind' is missing");
    expect_apply(APPLIED, "{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}", 400,
                 "the name of the object (other) does not match");
    expect_apply(APPLIED,
                 "{apiVersion: v1, kind: ConfigMap, metadata: {name: applied, "
                 "managedFields: []}}",
                 400, "metadata.managedFields must be nil");
    expect_apply(APPLIED, "{apiVersion: v1, kind: ConfigMap, metadata: {name: applied, uid: u}}",
                 409, "uid mismatch");
    expect_apply(APPLIED "&fieldValidation=Strict", CONFIG(", dat: {}"), 400,
                 "unknown field \"dat\"");
    expect_apply(APPLIED, CONFIG(", data: {a: [1]}"), 400, "cannot be handled as a ConfigMap");
    expect_apply(CM "/applied/scale?fieldManager=m", CONFIG(""), 404, NULL);
    expect_apply(CM "/applied?fieldManager=%07", CONFIG(""), 422, "printable");
    AUTO_BUF long_name = BUF_INIT;
    buf_printf(&long_name, CM "/applied?fieldManager=%0129d", 0);
    expect_apply(long_name.data, CONFIG(""), 422, "may not be more than 128 bytes");
    expect_status("PATCH", APPLIED "&force=true", "{}", 422, "Invalid");

    apply_with(APPLIED "&dryRun=All", CONFIG(", data: {a: b}"), 201, &a);
    expect_status("GET", CM "/applied", NULL, 404, "NotFound");
    apply_with(APPLIED, CONFIG(", data: {a: b}"), 201, &b);
    assert_string_equal(object_str(b.json, "metadata.managedFields.0.manager"), "m");
    assert_non_null(object_at(b.json, "metadata.managedFields.0.fieldsV1.f:data.f:a"));
    apply_with(APPLIED,
               "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":"
               "\"applied\"},\"data\":{\"a\":\"b\"}}",
               200, &c);
    assert_string_equal(object_str(b.json, "metadata.resourceVersion"),
                        object_str(c.json, "metadata.resourceVersion"));
    expect_apply(APPLIED "&force=false",
                 "{apiVersion: v1, kind: ConfigMap, metadata: {name: applied, "
                 "resourceVersion: \"1\"}, data: {a: b}}",
                 409, "the object has been modified");
}

/* What a client reads and sends back is no change; [] forgets the owners. */
static void managed_fields_survive_their_readers(void **state) {
    AUTO_ANSWER made, read, put, cleared, listed;
    const char *text = "{\"metadata\":{\"name\":\"kept\"},\"data\":{\"a\":\"b\"}}";
    request_with("POST", CM, "User-Agent: tool/1.0 (x)\r\n", text, strlen(text), &made);
    assert_int_equal(made.status, 201);
    request("GET", CM "/kept", NULL, &read);
    assert_string_equal(object_str(read.json, "metadata.managedFields.0.manager"), "tool");
    assert_string_equal(object_str(read.json, "metadata.managedFields.0.operation"), "Update");
    request_with("PUT", CM "/kept", "User-Agent: other/2\r\n", read.body.data, read.body.len, &put);
    assert_int_equal(put.status, 200);
    assert_true(json_equal(put.json, read.json));
    struct error err = ERROR_INIT;
    AUTO(store_object) stored = NULL;
    assert_int_equal(store_get(env.store, "core/configmaps/default/kept", &stored, &err), OK);
    assert_true(json_is_string(object_at(stored->json, "metadata.managedFields")));
    request("GET", CM "?fieldSelector=metadata.name=kept", NULL, &listed);
    assert_true(json_is_array(object_at(listed.json, "items.0.metadata.managedFields")));
    request("PATCH", CM "/kept", "{\"metadata\":{\"managedFields\":[]}}", &cleared);
    assert_int_equal(cleared.status, 200);
    assert_null(object_at(cleared.json, "metadata.managedFields"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_without_causes_names_no_object),
        cmocka_unit_test(ugly_bodies_are_refused),
        cmocka_unit_test(wrong_types_are_named),
        cmocka_unit_test(json_patch_operations_are_bounded),
        cmocka_unit_test(keys_that_stand_twice_are_told_by_every_verb),
        cmocka_unit_test(unknown_places_and_methods),
        cmocka_unit_test(versions_and_generations),
        cmocka_unit_test(scale_wants_a_number),
        cmocka_unit_test(lists_come_in_pages),
        cmocka_unit_test(pages_and_exact_lists_are_of_one_revision),
        cmocka_unit_test(bad_list_options_are_named),
        cmocka_unit_test(watches_see_what_a_selector_sees),
        cmocka_unit_test(initial_events_end_with_a_marked_bookmark),
        cmocka_unit_test(racing_patches_lose_nothing),
        cmocka_unit_test(logs_are_read_and_followed),
        cmocka_unit_test(pods_on_a_node_end_gracefully),
        cmocka_unit_test(namespaces_wait_for_their_contents),
        cmocka_unit_test(streams_are_bounded),
        cmocka_unit_test(events_have_two_spellings),
        cmocka_unit_test(lost_history_is_gone),
        cmocka_unit_test(expired_lists_offer_a_way_on),
        cmocka_unit_test(kinds_that_are_not_run_are_empty_and_refuse),
        cmocka_unit_test(autoscalers_have_two_versions),
        cmocka_unit_test(impersonation_takes_rights_away),
        cmocka_unit_test(server_side_apply_answers),
        cmocka_unit_test(managed_fields_survive_their_readers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
