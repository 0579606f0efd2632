/* The supervisor with real children: readiness, exit codes, signals, grace, orphans, logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/supervisor.h"

enum { PATIENCE_MS = 20000 };

struct fixture {
    char root[64];
    char *run_dir, *log_dir, *vmstat;
    struct podlog *podlog;
    struct supervisor *supervisor;
    int num_changes;
};

static void count_change(void *user, const char *uid) {
    ((struct fixture *)user)->num_changes++;
}

static void start_supervisor(struct fixture *f) {
    struct error err = ERROR_INIT;
    struct supervisor_options opt = {.run_dir = f->run_dir,
                                     .podlog = f->podlog,
                                     .on_change = count_change,
                                     .user = f,
                                     .vmstat = f->vmstat};
    if (supervisor_create(&opt, &f->supervisor, &err))
        fail_msg("%s", err.text);
}

static int setup(void **state) {
    struct fixture *f = mem_alloc(sizeof(*f));
    strcpy(f->root, "/tmp/inferd-sup-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    f->run_dir = mem_printf("%s/run", f->root);
    f->log_dir = mem_printf("%s/logs", f->root);
    f->vmstat = mem_printf("%s/vmstat", f->root);
    mkdir(f->run_dir, 0700);
    struct error err = ERROR_INIT;
    struct podlog_options opt = {.dir = f->log_dir, .file_bytes_max = 4096, .num_files_max = 3};
    if (podlog_create(&opt, &f->podlog, &err))
        fail_msg("%s", err.text);
    start_supervisor(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    supervisor_destroy(f->supervisor, 100);
    podlog_destroy(f->podlog);
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", f->root);
    int rc = system(command);
    free(f->run_dir);
    free(f->log_dir);
    free(f->vmstat);
    free(f);
    return rc;
}

static void start(struct fixture *f, const char *uid, const char *script, const char *uds) {
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const char *env[] = {"GREETING=hello", NULL};
    struct replica_spec spec = {.ns = "default",
                                .pod = uid,
                                .uid = uid,
                                .container = "main",
                                .argv = argv,
                                .env = env,
                                .uds_path = uds,
                                .open_files_max = 100};
    struct replica_driver d = supervisor_driver(f->supervisor);
    struct error err = ERROR_INIT;
    if (d.start(d.self, &spec, &err))
        fail_msg("%s", err.text);
}

static struct replica_state get(struct fixture *f, const char *uid) {
    struct replica_driver d = supervisor_driver(f->supervisor);
    struct replica_state st;
    assert_true(d.get(d.self, &(struct replica_key){uid, "main"}, &st));
    return st;
}

/* Runs the supervisor's loop until the replica is in the phase. */
static struct replica_state wait_phase(struct fixture *f, const char *uid,
                                       enum replica_phase phase) {
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    while (get(f, uid).phase != phase) {
        if (clock_mono_ms() > deadline)
            fail_msg("phase %d is not reached, it is %d", phase, get(f, uid).phase);
        int wait = supervisor_poll(f->supervisor, clock_mono_ms());
        struct pollfd p = {.fd = supervisor_fd(f->supervisor), .events = POLLIN};
        poll(&p, 1, wait < 0 || wait > 100 ? 100 : wait);
    }
    return get(f, uid);
}

/* Like wait_phase, for a file that a child makes. */
static void wait_file(struct fixture *f, const char *path) {
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    while (access(path, F_OK)) {
        assert_true(clock_mono_ms() < deadline);
        supervisor_poll(f->supervisor, clock_mono_ms());
        struct pollfd p = {.fd = supervisor_fd(f->supervisor), .events = POLLIN};
        poll(&p, 1, 10);
    }
}

static void exit_code_and_termination_message_are_reported(void **state) {
    struct fixture *f = *state;
    start(f, "a", "echo cannot load >$INFERD_TERMINATION_LOG; exit 7", NULL);
    struct replica_state st = wait_phase(f, "a", REPLICA_EXITED);
    assert_int_equal(st.exit_code, 7);
    assert_int_equal(st.signal, 0);
    assert_string_equal(st.message, "cannot load");
    assert_true(st.finished_ms >= st.started_ms);
    struct replica_driver d = supervisor_driver(f->supervisor);
    d.forget(d.self, &(struct replica_key){"a", "main"});
    struct replica_state gone;
    assert_false(d.get(d.self, &(struct replica_key){"a", "main"}, &gone));
}

static void a_killed_child_says_its_signal_and_touches_no_other(void **state) {
    struct fixture *f = *state;
    start(f, "a", "sleep 600", NULL);
    start(f, "b", "sleep 600", NULL);
    kill(get(f, "a").pid, SIGKILL);
    struct replica_state st = wait_phase(f, "a", REPLICA_EXITED);
    assert_int_equal(st.signal, SIGKILL);
    assert_int_equal(st.exit_code, 137);
    assert_int_equal(get(f, "b").phase, REPLICA_READY);
}

static void count_oom_kills(const struct fixture *f, int num) {
    FILE *file = fopen(f->vmstat, "w");
    assert_non_null(file);
    fprintf(file, "nr_free_pages 1\noom_kill_disable 9\noom_kill %d\npgfault 2\n", num);
    fclose(file);
}

static void whom_the_kernel_killed_for_want_of_memory_is_told_apart(void **state) {
    struct fixture *f = *state;
    count_oom_kills(f, 3);
    supervisor_destroy(f->supervisor, 0);
    start_supervisor(f);
    start(f, "a", "kill -9 $$", NULL);
    assert_false(wait_phase(f, "a", REPLICA_EXITED).oom_killed);
    start(f, "b", "sleep 600", NULL);
    start(f, "c", "sleep 600", NULL);
    start(f, "d", "sleep 600", NULL);
    count_oom_kills(f, 4);
    kill(get(f, "b").pid, SIGKILL);
    struct replica_state st = wait_phase(f, "b", REPLICA_EXITED);
    assert_true(st.oom_killed);
    assert_int_equal(st.exit_code, 137);
    kill(get(f, "c").pid, SIGTERM);
    assert_false(wait_phase(f, "c", REPLICA_EXITED).oom_killed);
    struct replica_driver d = supervisor_driver(f->supervisor);
    d.stop(d.self, &(struct replica_key){"d", "main"}, 0);
    assert_false(wait_phase(f, "d", REPLICA_EXITED).oom_killed);
}

static void stop_is_graceful_and_then_final(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *ready = mem_printf("%s/ready", f->root);
    AUTO_FREE char *polite =
        mem_printf("trap 'exit 0' TERM; : >%s; while :; do sleep 0.01; done", ready);
    AUTO_FREE char *ready2 = mem_printf("%s/ready2", f->root);
    AUTO_FREE char *stubborn =
        mem_printf("trap '' TERM; : >%s; while :; do sleep 0.01; done", ready2);
    start(f, "polite", polite, NULL);
    start(f, "stubborn", stubborn, NULL);
    wait_file(f, ready);
    wait_file(f, ready2);
    struct replica_driver d = supervisor_driver(f->supervisor);
    d.stop(d.self, &(struct replica_key){"polite", "main"}, PATIENCE_MS);
    d.stop(d.self, &(struct replica_key){"stubborn", "main"}, 50);
    assert_int_equal(wait_phase(f, "polite", REPLICA_EXITED).exit_code, 0);
    assert_int_equal(wait_phase(f, "stubborn", REPLICA_EXITED).signal, SIGKILL);
}

static void a_program_that_is_missing_is_an_error_at_once(void **state) {
    struct fixture *f = *state;
    const char *argv[] = {"/no/such/program", NULL};
    struct replica_spec spec = {
        .ns = "default", .pod = "a", .uid = "a", .container = "m", .argv = argv};
    struct replica_driver d = supervisor_driver(f->supervisor);
    struct error err = ERROR_INIT;
    assert_int_equal(d.start(d.self, &spec, &err), ERR_IO);
    assert_non_null(strstr(err.text, "/no/such/program"));
}

static int listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(path) < sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

/* Answers every probe that is waiting with `status` until the phase is reached. */
static void serve_until(struct fixture *f, int listener, int status, const char *uid,
                        enum replica_phase phase) {
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    while (get(f, uid).phase != phase) {
        assert_true(clock_mono_ms() < deadline);
        int wait = supervisor_poll(f->supervisor, clock_mono_ms());
        struct pollfd p[2] = {{.fd = supervisor_fd(f->supervisor), .events = POLLIN},
                              {.fd = listener, .events = POLLIN}};
        poll(p, 2, wait < 0 || wait > 100 ? 100 : wait);
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        char answer[128];
        int n =
            snprintf(answer, sizeof(answer), "HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", status);
        assert_int_equal(write(client, answer, (size_t)n), n);
        close(client);
    }
}

static void readiness_follows_the_health_answer(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *path = mem_printf("%s/a.sock", f->run_dir);
    start(f, "a", "sleep 600", path);
    assert_int_equal(get(f, "a").phase, REPLICA_STARTING);
    int listener = listen_on(path);
    serve_until(f, listener, 200, "a", REPLICA_READY);
    assert_true(get(f, "a").ready_ms > 0);
    assert_true(f->num_changes >= 1);
    serve_until(f, listener, 503, "a", REPLICA_UNREADY);
    serve_until(f, listener, 200, "a", REPLICA_READY);
    close(listener);
}

/* After so many refusals the next question is due in more than a second; the socket is news. */
static void a_replica_is_asked_when_its_socket_appears(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *path = mem_printf("%s/a.sock", f->run_dir);
    start(f, "a", "sleep 600", path);
    int wait = 0;
    for (int64_t now = clock_mono_ms(); wait < 1000; now += wait)
        wait = supervisor_poll(f->supervisor, now);
    int64_t far = clock_mono_ms() + 1000 * 1000; /* its timers are behind this time */
    while (supervisor_poll(f->supervisor, far) == 0)
        ;
    int listener = listen_on(path);
    struct pollfd p = {.fd = supervisor_fd(f->supervisor), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    supervisor_poll(f->supervisor, far);
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* it has come already */
    assert_true(client >= 0);
    close(client);
    close(listener);
}

static void grandchildren_end_with_their_replica(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *file = mem_printf("%s/grandchild", f->root);
    AUTO_FREE char *script =
        mem_printf("sleep 600 & echo $! >%s.new; mv %s.new %s; wait", file, file, file);
    start(f, "a", script, NULL);
    wait_file(f, file);
    FILE *in = fopen(file, "r");
    int pid = 0;
    assert_int_equal(fscanf(in, "%d", &pid), 1);
    fclose(in);
    assert_int_equal(kill(pid, 0), 0);
    kill(get(f, "a").pid, SIGKILL);
    wait_phase(f, "a", REPLICA_EXITED);
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    char state_path[64], stat[256] = "";
    snprintf(state_path, sizeof(state_path), "/proc/%d/stat", pid);
    for (;;) { /* gone, or a zombie that its new parent has yet to collect */
        FILE *s = fopen(state_path, "r");
        size_t n = s ? fread(stat, 1, sizeof(stat) - 1, s) : 0;
        stat[n] = '\0';
        if (s)
            fclose(s);
        if (!n || strstr(stat, ") Z "))
            break;
        assert_true(clock_mono_ms() < deadline);
        sched_yield();
    }
}

/* A "daemon" that is killed: its child dies with it; a child that slipped through is found by its
 * pid file. */
static void what_a_killed_daemon_left_is_ended(void **state) {
    struct fixture *f = *state;
    pid_t orphan = fork();
    if (!orphan) {
        setpgid(0, 0);
        execl("/bin/sleep", "sleep", "600", NULL);
        _exit(127);
    }
    setpgid(orphan, orphan);
    char stat_path[64], text[512];
    snprintf(stat_path, sizeof(stat_path), "/proc/%d/stat", orphan);
    FILE *in = fopen(stat_path, "r");
    size_t n = fread(text, 1, sizeof(text) - 1, in);
    text[n] = '\0';
    fclose(in);
    char *p = strrchr(text, ')');
    for (int field = 2; field < 22; field++)
        p = strchr(p + 1, ' ');
    AUTO_FREE char *path = mem_printf("%s/old.pid", f->run_dir);
    FILE *out = fopen(path, "w");
    fprintf(out, "%d %llu\n", orphan, strtoull(p + 1, NULL, 10));
    fclose(out);
    AUTO_FREE char *other = mem_printf("%s/other.pid", f->run_dir);
    out = fopen(other, "w");
    fprintf(out, "%d 1\n", getpid()); /* a pid that was used again: must be left alone */
    fclose(out);

    supervisor_destroy(f->supervisor, 0);
    start_supervisor(f);
    int status;
    assert_int_equal(waitpid(orphan, &status, 0), orphan);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(access(path, F_OK), -1);
}

static void output_is_logged_with_its_stream(void **state) {
    struct fixture *f = *state;
    start(f, "a", "echo out $GREETING; echo err >&2; exit 1", NULL);
    struct replica_state st = wait_phase(f, "a", REPLICA_EXITED);
    struct podlog_source src = {.ns = "default", .pod = "a", .uid = "a", .container = "main"};
    struct podlog_read_options opt = {.tail_lines = -1, .limit_bytes = -1, .follow = true};
    struct podlog_reader *r;
    struct error err = ERROR_INIT;
    if (podlog_reader_open(f->podlog, &src, &opt, &r, &err))
        fail_msg("%s", err.text);
    AUTO_BUF text = BUF_INIT;
    int64_t deadline = clock_mono_ms() + PATIENCE_MS;
    while (podlog_reader_next(r, 4096, &text))
        assert_true(clock_mono_ms() < deadline);
    podlog_reader_close(r);
    assert_non_null(strstr(text.data, "out hello\n"));
    assert_non_null(strstr(text.data, "err\n"));
    assert_int_equal(st.exit_code, 1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(exit_code_and_termination_message_are_reported),
        T(a_killed_child_says_its_signal_and_touches_no_other),
        T(whom_the_kernel_killed_for_want_of_memory_is_told_apart),
        T(stop_is_graceful_and_then_final),
        T(a_program_that_is_missing_is_an_error_at_once),
        T(readiness_follows_the_health_answer),
        T(a_replica_is_asked_when_its_socket_appears),
        T(grandchildren_end_with_their_replica),
        T(what_a_killed_daemon_left_is_ended),
        T(output_is_logged_with_its_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
