/* Questions to real commands and a real server, and the prober that asks them by its rules. */
#include "core/node/prober.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/clock.h"

enum { PATIENCE_MS = 20000, SHORT_MS = 100 };

/* ---- a server that does what the path says ---- */

struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
};

static void *serve(void *user) {
    struct server *s = user;
    int held[16], num_held = 0;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        char request[512];
        ssize_t n = recv(fd, request, sizeof(request) - 1, 0);
        request[n > 0 ? n : 0] = '\0';
        if (strstr(request, "/hang") && num_held < 16) {
            held[num_held++] = fd;
            continue;
        }
        const char *answer = strstr(request, "GET /ok HTTP/1.1\r\nHost: 127.0.0.1:") &&
                                     strstr(request, "\r\nUser-Agent: kube-probe/")
                                 ? "HTTP/1.1 200 OK\r\n\r\n"
                             : strstr(request, "/there")   ? "HTTP/1.0 302 Found\r\n\r\n"
                             : strstr(request, "\r\nX: y") ? "HTTP/1.1 204 None\r\n\r\n"
                             : strstr(request, "/what")    ? "220 smtp.example.com ready\r\n"
                             : strstr(request, "/close")   ? ""
                                                           : "HTTP/1.1 503 Busy\r\n\r\n";
        send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        close(fd);
    }
    while (num_held)
        close(held[--num_held]);
    return NULL;
}

/* Takes a port; nobody listens on it yet. */
static void server_bind(struct server *s) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    getsockname(s->fd, (struct sockaddr *)&at, &len);
    s->port = ntohs(at.sin_port);
}

static void server_start(struct server *s) {
    server_bind(s);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s) {
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

/* ---- questions ---- */

static char *no_env[] = {NULL};
static const struct running beside = {.ns = (char *)"n",
                                      .pod = (char *)"p",
                                      .uid = (char *)"u",
                                      .container = (char *)"c",
                                      .env = no_env,
                                      .open_files_max = 64};

/* Asks until there is an answer; checks it. */
static void expect(const struct question *q, int64_t timeout_ms, bool yes, const char *why) {
    struct asking a;
    struct error err = ERROR_INIT;
    AUTO_BUF text = BUF_INIT;
    bool got;
    struct asking_options opt = {
        .question = q, .container = &beside, .timeout_ms = timeout_ms, .now_ms = clock_mono_ms()};
    if (asking_start(&opt, &a, &err))
        fail_msg("%s", err.text);
    while (!asking_advance(&a, clock_mono_ms(), &got, &text)) {
        struct pollfd fds[QUESTION_FDS_MAX];
        size_t num = asking_fds(&a, fds);
        assert_true(num > 0);
        int64_t left = a.deadline_ms - clock_mono_ms();
        poll(fds, num, left > 0 ? (int)left : 0);
    }
    asking_end(&a);
    if (got != yes || !strstr(text.data ? text.data : "", why))
        fail_msg("answer %d \"%s\", wanted %d \"%s\"", got, text.data ? text.data : "", yes, why);
}

static void commands_answer_by_their_exit_code(void **state) {
    static const struct {
        const char *argv[4];
        int64_t timeout_ms;
        bool yes;
        const char *why;
    } cases[] = {
        {{"true"}, PATIENCE_MS, true, ""},
        {{"sh", "-c", "test $POD_UID = u"}, PATIENCE_MS, true, ""},
        {{"sh", "-c", "echo is not well >&2; exit 3"}, PATIENCE_MS, false, "is not well"},
        {{"sh", "-c", "sleep 1000 & exit 1"},
         PATIENCE_MS,
         false,
         ""}, /* who keeps the pipes open */
        {{"sh", "-c", "yes | head -c 100000; exit 1"}, PATIENCE_MS, false, "y\ny"},
        {{"sleep", "1000"}, SHORT_MS, false, "command \"sleep 1000\" timed out after 0s"},
        {{"yes"}, SHORT_MS, false, "command \"yes\" timed out after 0s"}, /* it never pauses */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct question q = {.way = QUESTION_EXEC, .argv = (char **)(uintptr_t)cases[i].argv};
        expect(&q, cases[i].timeout_ms, cases[i].yes, cases[i].why);
    }
    const char *absent[] = {"no-such-program-anywhere", NULL};
    struct question q = {.way = QUESTION_EXEC, .argv = (char **)(uintptr_t)absent};
    struct asking_options opt = {.question = &q, .container = &beside, .timeout_ms = PATIENCE_MS};
    struct asking a;
    struct error err = ERROR_INIT;
    assert_int_equal(asking_start(&opt, &a, &err), ERR_IO);
    assert_non_null(strstr(err.text, "no-such-program-anywhere"));
}

static void servers_answer_by_their_status(void **state) {
    struct server s;
    char *headers[] = {(char *)"X: y", NULL};
    server_start(&s);
    const struct {
        const char *path;
        char **headers;
        int64_t timeout_ms;
        bool yes;
        const char *why;
    } cases[] = {
        {"/ok", NULL, PATIENCE_MS, true, ""},
        {"there", NULL, PATIENCE_MS, true, ""},
        {"/headers", headers, PATIENCE_MS, true, ""},
        {"/busy", NULL, PATIENCE_MS, false, "HTTP probe failed with statuscode: 503"},
        {"/what", NULL, PATIENCE_MS, false, "/what\": malformed HTTP response"},
        {"/close", NULL, PATIENCE_MS, false, "/close\": EOF"},
        {"/hang", NULL, SHORT_MS, false,
         "/hang\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct question q = {.way = QUESTION_HTTP,
                             .host = (char *)"127.0.0.1",
                             .port = s.port,
                             .path = (char *)(uintptr_t)cases[i].path,
                             .headers = cases[i].headers};
        expect(&q, cases[i].timeout_ms, cases[i].yes, cases[i].why);
    }
    struct question q = {.way = QUESTION_TCP, .host = (char *)"127.0.0.1", .port = s.port};
    expect(&q, PATIENCE_MS, true, "");
    server_stop(&s);
}

static void nobody_listening_is_no(void **state) {
    struct server s;
    server_bind(&s);
    struct question q = {.way = QUESTION_TCP, .host = (char *)"127.0.0.1", .port = s.port};
    AUTO_FREE char *why = mem_printf("dial tcp 127.0.0.1:%u: connect: connection refused", q.port);
    expect(&q, PATIENCE_MS, false, why);
    AUTO_FREE char *url =
        mem_printf("Get \"http://127.0.0.1:%u/x\": dial tcp 127.0.0.1:%u: connect: connection "
                   "refused",
                   q.port, q.port);
    q.way = QUESTION_HTTP;
    q.path = (char *)"x";
    expect(&q, PATIENCE_MS, false, url);
    close(s.fd);
}

/* ---- the prober ---- */

static void on_news(void *user) {
    uint64_t one = 1;
    ssize_t n = write(*(int *)user, &one, sizeof(one));
    assert_int_equal(n, sizeof(one));
}

static struct prober_news *wait_news(struct prober *p, int fd) {
    for (int64_t deadline = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < deadline;) {
        struct prober_news *n = prober_take(p);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        uint64_t count;
        if (n)
            return n;
        if (poll(&wait, 1, PATIENCE_MS) > 0)
            assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    }
    fail_msg("no news");
    return NULL;
}

static void the_prober_tells_what_changes(void **state) {
    char dir[] = "/tmp/inferd-prober-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *flag = mem_printf("%s/flag", dir);
    const char *argv[] = {"test", "-e", flag, NULL};
    int fd = eventfd(0, EFD_CLOEXEC), pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct error err = ERROR_INIT;
    AUTO(running_table) running = running_table_create();
    AUTO(prober) p = NULL;
    const struct replica_spec spec = {
        .ns = "n", .pod = "p", .uid = "u", .container = "c", .open_files_max = 64};
    const struct health_rule rule = {.asked = true,
                                     .period_ms = 20,
                                     .timeout_ms = PATIENCE_MS,
                                     .success_threshold = 1,
                                     .failure_threshold = 1,
                                     .grace_ms = -1};
    struct probes probes = {
        .rules = {[HEALTH_READINESS] = rule},
        .questions = {[HEALTH_READINESS] = {QUESTION_EXEC, .argv = (char **)(uintptr_t)argv}}};
    const struct prober_target target = {"u", "c", 7, &probes};
    assert_int_equal(prober_create(running, on_news, &fd, &p, &err), OK);
    prober_add(p, &target);
    struct prober_news *n = wait_news(p, fd); /* it does not run yet */
    assert_int_equal(n->kind, PROBER_ERROR);
    assert_string_equal(n->text, "container not running");
    running_table_put(running, &spec, pidfd);
    while (n->kind == PROBER_ERROR) {
        prober_news_free(n);
        n = wait_news(p, fd);
    }
    assert_int_equal(n->kind, PROBER_NO);
    assert_int_equal(n->probe, HEALTH_READINESS);
    assert_int_equal(n->restart, 7);
    assert_true(n->started && !n->ready);
    FILE *f = fopen(flag, "w");
    assert_int_equal(fclose(f), 0);
    while (n->kind == PROBER_NO) {
        prober_news_free(n);
        n = wait_news(p, fd);
    }
    assert_int_equal(n->kind, PROBER_STATE);
    assert_true(n->ready);
    prober_news_free(n);
    /* Anew, with a liveness probe that fails: told once, and then it is left alone. */
    probes.rules[HEALTH_LIVENESS] = rule;
    probes.questions[HEALTH_LIVENESS] = (struct question){
        QUESTION_EXEC, .argv = (char **)(uintptr_t)(const char *[]){"false", NULL}};
    prober_add(p, &target);
    for (n = wait_news(p, fd); n->kind != PROBER_STATE || n->fatal == HEALTH_PROBES;
         n = wait_news(p, fd))
        prober_news_free(n);
    assert_int_equal(n->fatal, HEALTH_LIVENESS);
    prober_news_free(n);
    prober_remove(p, "u", "c");
    prober_remove(p, "u", "nobody");
    prober_add(p, &target); /* the end comes while something is asked */
    prober_destroy(steal(p));
    close(fd);
    close(pidfd);
    unlink(flag);
    assert_int_equal(rmdir(dir), 0);
}

static void hooks_are_run_once(void **state) {
    int fd = eventfd(0, EFD_CLOEXEC), pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct error err = ERROR_INIT;
    AUTO(running_table) running = running_table_create();
    AUTO(prober) p = NULL;
    const struct replica_spec spec = {
        .ns = "n", .pod = "p", .uid = "u", .container = "c", .open_files_max = 64};
    const char *good[] = {"true", NULL}, *bad[] = {"sh", "-c", "echo cannot; exit 1", NULL};
    struct probes probes = {.hooks = {{QUESTION_EXEC, .argv = (char **)(uintptr_t)good},
                                      {QUESTION_EXEC, .argv = (char **)(uintptr_t)bad}}};
    const struct prober_target target = {"u", "c", 3, &probes};
    static const struct {
        enum prober_hook hook;
        int64_t sleep_ms, timeout_ms; /* sleep_ms > 0: that instead */
        const char *text;
    } cases[] = {
        {HOOK_POST_START, 0, PATIENCE_MS, NULL},
        {HOOK_PRE_STOP, 0, PATIENCE_MS, "cannot"},
        {HOOK_PRE_STOP, 1, PATIENCE_MS, NULL},
        {HOOK_PRE_STOP, 10 * PATIENCE_MS, 1, NULL}, /* the grace period cuts it short */
    };
    assert_int_equal(prober_create(running, on_news, &fd, &p, &err), OK);
    running_table_put(running, &spec, pidfd);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (cases[i].sleep_ms)
            probes.hooks[cases[i].hook] =
                (struct question){.way = QUESTION_SLEEP, .sleep_ms = cases[i].sleep_ms};
        prober_run_hook(p, &target, cases[i].hook, cases[i].timeout_ms);
        struct prober_news *n = wait_news(p, fd);
        assert_int_equal(n->kind, PROBER_HOOK);
        assert_int_equal(n->hook, cases[i].hook);
        assert_int_equal(n->restart, 3);
        if (cases[i].text)
            assert_string_equal(n->text, cases[i].text);
        else
            assert_null(n->text);
        prober_news_free(n);
    }
    prober_run_hook(p, &target, HOOK_PRE_STOP, PATIENCE_MS); /* and one that is cancelled */
    prober_remove(p, "u", "c");
    prober_destroy(steal(p));
    close(fd);
    close(pidfd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_answer_by_their_exit_code),
        cmocka_unit_test(servers_answer_by_their_status),
        cmocka_unit_test(nobody_listening_is_no),
        cmocka_unit_test(the_prober_tells_what_changes),
        cmocka_unit_test(hooks_are_run_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
