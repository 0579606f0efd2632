/* Proxies of pods and services as clients and pods of sockets see them: what is handed on, answers
 * of every kind, and ends from either side. */
#include "kube-compat/proxy.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/object.h"
#include "kube-compat/tunnel_fixture_test.h"

enum { LARGE_BYTES = 6 << 20 };

/* ---- a pod: one thread that answers one connection after the other ---- */

static struct {
    int listener;
    uint16_t port;
    pthread_t thread;
    struct buf heard;     /* the last request */
    atomic_int num_ended; /* connections whose end came from the other side */
} pod;

static void say(int fd, const char *text) {
    for (size_t len = strlen(text); len;) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void say_large(int fd) {
    AUTO_FREE char *data = mem_alloc(LARGE_BYTES + 1);
    memset(data, 'x', LARGE_BYTES);
    AUTO_FREE char *head = mem_printf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LARGE_BYTES);
    say(fd, head);
    say(fd, data);
}

static void answer_as_asked(int fd) {
    const char *heard = pod.heard.data;
    char byte;
    if (strstr(heard, "/chunked"))
        say(fd, "HTTP/1.1 200 Fine\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n"
                "X-Two: a\r\nX-Two: b\r\nConnection: x-secret\r\n\r\n5\r\nhello\r\n7\r\n, "
                "world\r\n0\r\n\r\n");
    else if (strstr(heard, "/both"))
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: "
                "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    else if (strstr(heard, "/endless"))
        say(fd, "HTTP/1.0 200 OK\r\n\r\nto the end");
    else if (strstr(heard, "/continue"))
        say(fd, "HTTP/1.1 100 Continue\r\nX-Not: mine\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: "
                "2\r\n\r\nok");
    else if (strstr(heard, "/cut"))
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    else if (strstr(heard, "/garbage"))
        say(fd, "this is no HTTP\r\n\r\n");
    else if (strstr(heard, "/moved"))
        say(fd, "HTTP/1.1 302 Found\r\nLocation: /elsewhere?x\r\nContent-Length: 0\r\n\r\n");
    else if (strstr(heard, "/away"))
        say(fd, "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n");
    else if (strstr(heard, "/nothing"))
        say(fd, "HTTP/1.1 204 Nothing\r\nX-Left: over\r\n\r\n");
    else if (strstr(heard, "/large"))
        say_large(fd);
    else if (strstr(heard, "/never") && recv(fd, &byte, 1, 0) <= 0)
        pod.num_ended++;
    else if (strstr(heard, "/head"))
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Head: yes\r\n\r\n");
    else
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

/* A head and as much body as it says. */
static bool hear(int fd) {
    buf_clear(&pod.heard);
    for (;;) {
        char data[4096];
        const char *end = pod.heard.data ? strstr(pod.heard.data, "\r\n\r\n") : NULL;
        const char *length = end ? strcasestr(pod.heard.data, "\r\nContent-Length: ") : NULL;
        size_t body = length ? strtoul(length + 18, NULL, 10) : 0;
        if (end && pod.heard.len >= (size_t)(end - pod.heard.data) + 4 + body)
            return true;
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n <= 0)
            return false;
        buf_append(&pod.heard, data, (size_t)n);
    }
}

static void *run_pod(void *user) {
    for (int fd; (fd = accept(pod.listener, NULL, NULL)) >= 0; close(fd)) {
        if (hear(fd))
            answer_as_asked(fd);
    }
    return NULL;
}

static int start_all(void **state) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    container_user = getuid(); /* whose listeners are the pod's */
    start(state);
    pod.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(pod.listener, (void *)&any, sizeof(any)), 0);
    assert_int_equal(listen(pod.listener, 16), 0);
    assert_int_equal(getsockname(pod.listener, (void *)&any, &len), 0);
    pod.port = ntohs(any.sin_port);
    assert_int_equal(pthread_create(&pod.thread, NULL, run_pod, NULL), 0);
    put("core/pods/default/p",
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:{s:s}}, s:{s:[{s:s, s:s, s:[{s:s, s:i}]}]}, "
                  "s:{s:[{s:s, s:s}]}}",
                  "apiVersion", "v1", "kind", "Pod", "metadata", "name", "p", "namespace",
                  "default", "uid", "p", "labels", "app", "web", "spec", "containers", "name",
                  "main", "image", "host", "ports", "name", "http", "containerPort", (int)pod.port,
                  "status", "conditions", "type", "Ready", "status", "True"));
    put("core/services/default/web",
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:{s:s}, s:[{s:i, s:s}]}}", "apiVersion", "v1",
                  "kind", "Service", "metadata", "name", "web", "namespace", "default", "uid",
                  "web", "spec", "selector", "app", "web", "ports", "port", 80, "targetPort",
                  "http"));
    return 0;
}

static int stop_all(void **state) {
    shutdown(pod.listener, SHUT_RDWR);
    pthread_join(pod.thread, NULL);
    close(pod.listener);
    buf_deinit(&pod.heard);
    return stop(state);
}

/* ---- a client ---- */

/* Gives everything that comes back. */
static char *ask(const char *method, const char *target, const char *headers, const char *body) {
    AUTO_CLIENT c;
    client_dial(&c);
    AUTO_FREE char *request =
        mem_printf("%s /api/v1/namespaces/default/%s HTTP/1.1\r\nHost: h\r\nConnection: "
                   "close\r\n%sContent-Length: %zu\r\n\r\n%s",
                   method, target, headers, strlen(body), body);
    client_send(&c, request, strlen(request));
    while (client_read(&c)) {}
    return buf_steal(&c.in);
}

static void expect(const char *answer, const char *text) {
    if (!strstr(answer, text))
        fail_msg("\"%s\" is not in: %.2000s", text, answer);
}

/* ---- the promises ---- */

static void names_have_parts(void **state) {
    static const struct {
        const char *text, *scheme, *name, *port; /* name NULL: refused */
    } cases[] = {{"web", "", "web", ""},
                 {"web:80", "", "web", "80"},
                 {"web:", "", "web", ""},
                 {"http:web:80", "http", "web", "80"},
                 {"https:web:", "https", "web", ""},
                 {":80", "", NULL, ""},
                 {"", "", NULL, ""},
                 {"a:b:c:d", "", NULL, ""},
                 {"http::80", "", NULL, ""}};
    AUTO(arena) arena = arena_create();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *scheme, *name, *port;
        bool fine = proxy_split_name(arena, cases[i].text, &scheme, &name, &port);
        assert_int_equal(fine, cases[i].name != NULL);
        if (!fine)
            continue;
        assert_string_equal(scheme, cases[i].scheme);
        assert_string_equal(name, cases[i].name);
        assert_string_equal(port, cases[i].port);
    }
}

static void requests_arrive_as_they_are_but_for_what_is_ours(void **state) {
    AUTO_FREE char *r = ask("POST", "services/web:80/proxy/a%2Fb/../c?x=%20&dryRun=no",
                            "X-Mine: one\r\nX-Mine: two\r\nX-Empty:\r\nContent-Type: text/y\r\n"
                            "TE: trailers\r\nX-Request-Id: 7\r\n",
                            "the body");
    expect(r, "HTTP/1.1 400 "); /* ".." is refused before anything else */
    AUTO_FREE char *fine = ask("POST", "services/web:80/proxy/a%2Fb//c?x=%20&dryRun=no",
                               "X-Mine: one\r\nX-Mine: two\r\nX-Empty:\r\nContent-Type: text/y\r\n"
                               "Authorization: Bearer secret\r\nTE: trailers\r\n"
                               "Connection: X-Near\r\nX-Near: us\r\n",
                               "the body");
    expect(fine, "HTTP/1.1 200 ");
    expect(pod.heard.data, "POST /a%2Fb//c?x=%20&dryRun=no HTTP/1.1\r\n");
    expect(pod.heard.data, "\r\n\r\nthe body");
    static const char *const there[] = {"X-Mine: one\r\n",
                                        "X-Mine: two\r\n",
                                        "X-Empty:",
                                        "Content-Type: text/y\r\n",
                                        "X-Forwarded-For: 127.0.0.1\r\n",
                                        "Content-Length: 8\r\n"};
    static const char *const absent[] = {
        "secret", "TE:", "Host: h\r\n", "Accept:", "Expect", "urlencoded", "X-Near"};
    for (size_t i = 0; i < ARRAY_LEN(there); i++)
        expect(pod.heard.data, there[i]);
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        assert_null(strstr(pod.heard.data, absent[i]));
    AUTO_FREE char *bare = ask("GET", "pods/p:http/proxy", "", "");
    expect(bare, "\r\n\r\nok");
    expect(pod.heard.data, "GET / HTTP/1.1\r\n");
}

static void answers_of_every_kind_come_back(void **state) {
    static const struct {
        const char *method, *path, *has[5], *has_not;
    } cases[] = {
        {"GET",
         "/chunked",
         {"HTTP/1.1 200 ", "Content-Type: text/x\r\n", "X-Two: a\r\n", "X-Two: b\r\n", "hello"},
         "x-secret"},
        {"PUT", "/continue", {"HTTP/1.1 201 ", "\r\n\r\nok"}, "X-Not"},
        {"GET",
         "/moved",
         {"HTTP/1.1 302 ",
          "Location: /api/v1/namespaces/default/services/web/proxy/elsewhere?x\r\n"},
         NULL},
        {"GET", "/away", {"HTTP/1.1 302 ", "Location: http://example.com/\r\n"}, NULL},
        {"GET", "/both", {"HTTP/1.1 200 ", "hello"}, "Content-Length"},
        {"GET", "/endless", {"HTTP/1.1 200 ", "to the end"}, "Content-Length"},
        {"DELETE", "/nothing", {"HTTP/1.1 204 ", "X-Left: over\r\n"}, NULL},
        {"HEAD", "/head", {"HTTP/1.1 200 ", "X-Head: yes\r\n"}, "hello"},
        {"GET",
         "/garbage",
         {"HTTP/1.1 503 ", "error trying to reach service", "\"kind\":\"Status\""},
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *target = mem_printf("services/web/proxy%s", cases[i].path);
        AUTO_FREE char *r = ask(cases[i].method, target, "", "");
        for (size_t k = 0; k < ARRAY_LEN(cases[i].has) && cases[i].has[k]; k++)
            expect(r, cases[i].has[k]);
        assert_true(!cases[i].has_not || !strstr(r, cases[i].has_not));
    }
    AUTO_FREE char *large = ask("GET", "services/web/proxy/large", "", "");
    expect(large, "Content-Length: 6291456\r\n");
    assert_int_equal(strlen(strstr(large, "\r\n\r\n") + 4), LARGE_BYTES);
    AUTO_FREE char *cut = ask("GET", "services/web/proxy/cut", "", "");
    expect(cut, "Content-Length: 10\r\n"); /* and the connection ended before */
    assert_true(strlen(strstr(cut, "\r\n\r\n") + 4) < 10);
}

/* A client that does not read holds up its own transfer only, and leaves in the middle of it. */
static void clients_may_be_slow_or_leave(void **state) {
    static const char request[] =
        "GET /api/v1/namespaces/default/services/web/proxy/large HTTP/1.1\r\nHost: h\r\n\r\n";
    for (int i = 0; i < 2; i++) {
        AUTO_CLIENT c;
        client_dial(&c);
        client_send(&c, request, sizeof(request) - 1);
        assert_true(client_read(&c));
        if (i == 0)
            continue; /* gone */
        while (c.in.len < LARGE_BYTES)
            assert_true(client_read(&c));
    }
    AUTO_CLIENT waits;
    client_dial(&waits);
    static const char never[] =
        "GET /api/v1/namespaces/default/services/web/proxy/never HTTP/1.1\r\nHost: h\r\n\r\n";
    int before = pod.num_ended;
    client_send(&waits, never, sizeof(never) - 1);
    close(waits.fd);
    waits.fd = -1;
    AUTO_FREE char *next = ask("GET", "services/web/proxy/next", "", ""); /* the pod's one thread is
                                                                            free again */
    expect(next, "\r\n\r\nok");
    assert_true(pod.num_ended <= before + 1);
}

static void what_cannot_be_reached_is_named(void **state) {
    static const struct {
        const char *target;
        int status;
        const char *says;
    } cases[] = {
        {"services/none/proxy/", 404, "not found"},
        {"services/web:99/proxy/", 503, "no endpoints available"},
        {"services/https:web:80/proxy/", 400, "reached by http here"},
        {"services/a:b:c:d/proxy/", 400, "invalid services request"},
        {"pods/p:none/proxy/", 400, "has no port"},
        {"pods/p:1/proxy/", 503, "no process of the pod listens on port 1"},
        {"pods/stopped/proxy/", 503, "does not run"},
        {"pods/p%2Fproxy/x/proxy/", 400, "hides /proxy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *r = ask("GET", cases[i].target, "", "");
        assert_int_equal(strtol(r + 9, NULL, 10), cases[i].status);
        expect(r, cases[i].says);
    }
}

/* The last one: the server stops under a request that is never answered (in stop_all). */
static void a_server_that_stops_ends_what_waits(void **state) {
    AUTO_CLIENT c;
    client_dial(&c);
    static const char never[] =
        "GET /api/v1/namespaces/default/pods/p/proxy/never HTTP/1.1\r\nHost: h\r\n\r\n";
    int before = pod.num_ended;
    client_send(&c, never, sizeof(never) - 1);
    while (!http_server_num_open(env.server)) {}
    http_server_stop(steal(env.server));
    kube_destroy(steal(env.kube));
    while (client_read(&c)) {}
    assert_true(pod.num_ended <= before + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_parts),
        cmocka_unit_test(requests_arrive_as_they_are_but_for_what_is_ours),
        cmocka_unit_test(answers_of_every_kind_come_back),
        cmocka_unit_test(clients_may_be_slow_or_leave),
        cmocka_unit_test(what_cannot_be_reached_is_named),
        cmocka_unit_test(a_server_that_stops_ends_what_waits),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
