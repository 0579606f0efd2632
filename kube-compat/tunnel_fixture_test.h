/* What the tests of tunnels share: the dialect over real HTTP with one pod that "runs", and a
 * client made of a socket. Included once per test program. */
#ifndef KUBE_COMPAT_TUNNEL_FIXTURE_TEST_H
#define KUBE_COMPAT_TUNNEL_FIXTURE_TEST_H

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/node/running.h"
#include "kube-compat/kube.h"

enum { PATIENCE_MS = 60000 }; /* only a failing test waits that long */

static struct {
    char dir[64];
    struct store *store;
    struct podlog *podlog;
    struct running_table *running;
    struct kube *kube;
    struct http_server *server;
    int port;
    int container[2]; /* stands for a pidfd: the container ends when [1] is closed */
    int output[2];    /* the container's stdout */
} env;

static uint32_t container_user; /* of its processes; 0: it stays the test's own */

static void put(const char *key, json_t *o) {
    struct error err = ERROR_INIT;
    if (store_put(env.store, key, o, STORE_EXPECT_ANY, NULL, &err))
        fail_msg("%s", err.text);
}

static void put_pod(const char *name, const char *image) {
    AUTO_FREE char *key = mem_printf("core/pods/default/%s", name);
    put(key, json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:[{s:s, s:s}]}}", "apiVersion", "v1",
                       "kind", "Pod", "metadata", "name", name, "namespace", "default", "uid", name,
                       "spec", "containers", "name", "main", "image", image));
}

static int start(void **state) {
    struct error err = ERROR_INIT;
    signal(SIGPIPE, SIG_IGN); /* as the daemon has it */
    snprintf(env.dir, sizeof(env.dir), "/tmp/exec-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    AUTO_FREE char *db = mem_printf("%s/state.db", env.dir);
    AUTO_FREE char *logs = mem_printf("%s/logs", env.dir);
    const struct store_options store_options = {.path = db, .history_events_max = 200};
    const struct podlog_options podlog_options = {
        .dir = logs, .file_bytes_max = 1 << 20, .num_files_max = 2};
    assert_int_equal(store_open(&store_options, &env.store, &err), OK);
    assert_int_equal(podlog_create(&podlog_options, &env.podlog, &err), OK);
    env.running = running_table_create();
    const struct kube_options kube_options = {.store = env.store,
                                              .podlog = env.podlog,
                                              .running = env.running,
                                              .server_address = "127.0.0.1:6443"};
    if (kube_create(&kube_options, &env.kube, &err))
        fail_msg("%s", err.text);
    const struct http_server_options http_options = {.listen = "127.0.0.1:0",
                                                     .handler = kube_handle,
                                                     .user = env.kube,
                                                     .error_body = kube_error_body};
    if (http_server_start(&http_options, &env.server, &err))
        fail_msg("%s", err.text);
    env.port = (int)strtol(strrchr(http_server_address(env.server), ':') + 1, NULL, 10);
    put_pod("p", "host");
    put_pod("stopped", "host");
    put_pod("replica", "inferd/engine");
    assert_int_equal(pipe(env.container), 0);
    assert_int_equal(pipe(env.output), 0);
    struct podlog_source source = {
        .ns = "default", .pod = "p", .uid = "p", .container = "main", .restart = 0};
    assert_int_equal(podlog_attach(env.podlog, &source, env.output[0], -1, &err), OK);
    static const char *const variables[] = {"WORD=word", NULL};
    const struct replica_spec spec = {.ns = "default",
                                      .pod = "p",
                                      .uid = "p",
                                      .container = "main",
                                      .env = variables,
                                      .user = container_user};
    running_table_put(env.running, &spec, env.container[0]);
    return 0;
}

static int stop(void **state) {
    http_server_stop(env.server);
    kube_destroy(env.kube);
    running_table_destroy(env.running);
    close(env.output[1]);
    podlog_destroy(env.podlog);
    store_close(env.store);
    close(env.container[0]);
    close(env.container[1]);
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", env.dir);
    return system(command);
}

/* ---- a client ---- */

struct client {
    int fd;
    struct buf in;
};

static void client_end(struct client *c) {
    if (c->fd >= 0)
        close(c->fd);
    buf_deinit(&c->in);
}
#define AUTO_CLIENT __attribute__((cleanup(client_end))) struct client

static void client_dial_port(struct client *c, uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
}

static void client_dial(struct client *c) {
    client_dial_port(c, (uint16_t)env.port);
}

static void client_send(struct client *c, const void *data, size_t len) {
    const char *p = data;
    for (ssize_t n; len && (n = send(c->fd, p, len, MSG_NOSIGNAL)) > 0; len -= (size_t)n)
        p += n;
}

/* Reads more; false at the end. */
static bool client_read(struct client *c) {
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (poll(&p, 1, PATIENCE_MS) != 1)
        fail_msg("the server says nothing behind %s", c->in.data ? c->in.data : "nothing");
    char data[16384];
    ssize_t n = recv(c->fd, data, sizeof(data), 0);
    if (n > 0)
        buf_append(&c->in, data, (size_t)n);
    return n > 0;
}

#endif
