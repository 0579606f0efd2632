/* Requests, to the whole dialect over a socket: "METHOD TARGET", the Accept header and the
 * Content-Type, a line each, then the body. Paths, queries, continue tokens and everything behind
 * them are read as in the daemon; writes are dry runs, so that the objects stay what they are.
 *
 * Promises: every request has an answer; none is the server's fault; a refusal is a Status with the
 * code of its status line. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/object.h"
#include "kube-compat/kube.h"
#include "tests/fuzz/fuzz.h"

enum { PATIENCE_MS = 60000, REQUEST_BYTES_MAX = 32 << 10 };

static struct {
    char dir[64];
    struct store *store;
    struct podlog *podlog;
    struct kube *kube;
    struct http_server *server;
    uint16_t port;
} env;

static void clean_up(void) {
    http_server_stop(env.server);
    kube_destroy(env.kube);
    podlog_destroy(env.podlog);
    store_close(env.store);
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", env.dir);
    FILE *rm = popen(command, "r");
    if (rm)
        pclose(rm);
}

static void must(enum errc code, const struct error *err) {
    if (code) {
        fprintf(stderr, "%s\n", err->text);
        abort();
    }
}

static void put(const char *key, const char *json) {
    struct error err = ERROR_INIT;
    must(store_put(env.store, key, json_loads(json, 0, NULL), STORE_EXPECT_ANY, NULL, &err), &err);
}

/* What the requests find. */
static void put_objects(void) {
    put("core/namespaces/-/default",
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"default\","
        "\"uid\":\"n\"},\"status\":{\"phase\":\"Active\"}}");
    for (int i = 0; i < 3; i++) {
        AUTO_FREE char *key = mem_printf("core/configmaps/default/cm%d", i);
        AUTO_FREE char *json =
            mem_printf("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":"
                       "\"cm%d\",\"namespace\":\"default\",\"uid\":\"u%d\",\"labels\":{\"n\":"
                       "\"%d\"}},\"data\":{\"k\":\"v\"}}",
                       i, i, i);
        put(key, json);
    }
    put("core/pods/default/p",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\",\"namespace\":"
        "\"default\",\"uid\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]},"
        "\"status\":{\"phase\":\"Pending\"}}");
}

static void start(void) {
    snprintf(env.dir, sizeof(env.dir), "/tmp/fuzz-request-XXXXXX");
    ASSERT(mkdtemp(env.dir));
    AUTO_FREE char *db = mem_printf("%s/state.db", env.dir);
    AUTO_FREE char *logs = mem_printf("%s/logs", env.dir);
    struct error err = ERROR_INIT;
    const struct store_options store_options = {.path = db, .history_events_max = 200};
    const struct podlog_options podlog_options = {
        .dir = logs, .file_bytes_max = 1 << 20, .num_files_max = 2};
    must(store_open(&store_options, &env.store, &err), &err);
    must(podlog_create(&podlog_options, &env.podlog, &err), &err);
    put_objects();
    const struct kube_options kube_options = {
        .store = env.store, .podlog = env.podlog, .server_address = "127.0.0.1:6443"};
    must(kube_create(&kube_options, &env.kube, &err), &err);
    const struct http_server_options http_options = {.listen = "127.0.0.1:0",
                                                     .handler = kube_handle,
                                                     .user = env.kube,
                                                     .error_body = kube_error_body};
    must(http_server_start(&http_options, &env.server, &err), &err);
    env.port = (uint16_t)strtol(strrchr(http_server_address(env.server), ':') + 1, NULL, 10);
    atexit(clean_up);
}

static void without_controls(char *line) {
    for (char *c = line; *c; c++)
        *c = (unsigned char)*c < 0x20 ? ' ' : *c;
}

/* Writes the request, as a dry run when it is a write. */
static void compose(const struct fuzz_parts *p, struct buf *out) {
    char *space = strchr(p->text[0], ' ');
    size_t method = space ? (size_t)(space - p->text[0]) : 0;
    const char *target = space ? space + 1 : p->text[0];
    bool reads = !method || !strncmp(p->text[0], "GET ", 4) || !strncmp(p->text[0], "HEAD ", 5);
    size_t path = strcspn(target, "?");
    buf_printf(out, "%.*s ", method ? (int)method : 3, method ? p->text[0] : "GET");
    buf_printf(out, "%s%.*s%s%s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n",
               *target == '/' ? "" : "/", (int)path, target, reads ? "" : "?dryRun=All&",
               target[path] ? target + path + !reads : "");
    if (p->len[1])
        buf_printf(out, "Accept: %s\r\n", p->text[1]);
    if (p->len[2])
        buf_printf(out, "Content-Type: %s\r\n", p->text[2]);
    buf_printf(out, "Content-Length: %zu\r\n\r\n", p->len[3]);
    buf_append(out, p->text[3], p->len[3]);
}

/* Reads to the end, or of what goes on for long its beginning. */
static void exchange(const struct buf *request, struct buf *answer) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(env.port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    ASSERT(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)));
    (void)send(fd, request->data, request->len, MSG_NOSIGNAL);
    char chunk[16 << 10];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready;
        do
            ready = poll(&p, 1, PATIENCE_MS);
        while (ready < 0 && errno == EINTR); /* libFuzzer's own timer */
        ASSERT(ready == 1);
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n <= 0)
            break;
        buf_append(answer, chunk, (size_t)n);
        if (strcasestr(answer->data, "\r\nTransfer-Encoding: chunked"))
            break;
    }
    close(fd);
}

static void check(const struct buf *request, const struct buf *answer) {
    int status = answer->len > 12 ? (int)strtol(answer->data + 9, NULL, 10) : 0;
    const char *body = answer->len ? strstr(answer->data, "\r\n\r\n") : NULL;
    if (!body || status < 200 || status == 500 || status > 504) {
        fprintf(stderr, "%.4000s\n->\n%.4000s\n", request->data, answer->len ? answer->data : "");
        abort();
    }
    size_t len = answer->len - (size_t)(body + 4 - answer->data);
    if (status < 400 || !len || strcasestr(answer->data, "\r\nTransfer-Encoding: chunked"))
        return;
    json_t *said = fuzz_json(body + 4, len);
    /* Of a request that is no HTTP the library refuses, in its own words. */
    const char *kind = object_str(said, "kind");
    if (said && (!kind || strcmp(kind, "Status") != 0 || object_int(said, "code", 0) != status)) {
        fprintf(stderr, "%.4000s\n->\n%.4000s\n", request->data, answer->data);
        abort();
    }
    json_decref(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!env.server)
        start();
    struct fuzz_parts p;
    fuzz_parts_init(&p, 4, data, size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX);
    for (size_t i = 0; i < 3; i++)
        without_controls(p.text[i]);
    AUTO_BUF request = BUF_INIT;
    AUTO_BUF answer = BUF_INIT;
    compose(&p, &request);
    exchange(&request, &answer);
    check(&request, &answer);
    fuzz_parts_deinit(&p);
    return 0;
}
