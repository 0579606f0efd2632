/* A command beside a running container.
 *
 * Without a terminal three pipes carry its streams; with one, a pseudo-terminal does, whose other
 * end belongs to the container's user and is the controlling terminal of the command's session:
 * Ctrl-C and the size of the window then work as in any terminal.
 *
 * The command has a process group of its own, which is killed when the command has ended or its
 * client has gone. What leaves the group lives until the container ends: everything of the
 * container's user goes then (host_user.h). */
#include "core/node/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "core/node/spawn.h"

enum { TTY_NAME_BYTES_MAX = 64 };

/* Both ends of what connects us with the command. */
struct ends {
    int child_in, child_out, child_error;
    int in, out, error;
};

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_ends(struct ends *e) {
    int *fds[] = {&e->child_in, &e->child_out, &e->child_error, &e->in, &e->out, &e->error};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close_fd(fds[i]);
}

/* A pipe of which our end does not block. */
static bool open_pipe(int *ret_ours, int *ret_childs, bool ours_writes) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return false;
    *ret_ours = fds[ours_writes];
    *ret_childs = fds[!ours_writes];
    return !fcntl(*ret_ours, F_SETFL, O_NONBLOCK);
}

static enum errc open_pipes(const struct exec_options *opt, struct ends *e, struct error *err) {
    bool ok = opt->stdin_open ? open_pipe(&e->in, &e->child_in, true)
                              : (e->child_in = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;
    if (ok && open_pipe(&e->out, &e->child_out, false) &&
        open_pipe(&e->error, &e->child_error, false))
        return OK;
    return err_errno(err, "make pipes of a command");
}

static enum errc open_terminal(uint32_t user, struct ends *e, struct error *err) {
    char name[TTY_NAME_BYTES_MAX];
    e->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (e->out < 0 || grantpt(e->out) || unlockpt(e->out) ||
        ptsname_r(e->out, name, sizeof(name)) ||
        (e->child_in = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return err_errno(err, "open a terminal");
    if (user && (fchown(e->child_in, user, user) || fchmod(e->child_in, 0600)))
        return err_errno(err, "give a terminal to user %u", user);
    e->child_out = fcntl(e->child_in, F_DUPFD_CLOEXEC, 0);
    e->child_error = fcntl(e->child_in, F_DUPFD_CLOEXEC, 0);
    return e->child_out >= 0 && e->child_error >= 0 ? OK : err_errno(err, "open a terminal");
}

static const char *env_value(char *const *env, const char *name) {
    size_t len = strlen(name);
    for (; *env; env++) {
        if (!strncmp(*env, name, len) && (*env)[len] == '=')
            return *env + len + 1;
    }
    return NULL;
}

/* Gives the container's environment; with a terminal also TERM. */
static char **make_env(const struct running *c, bool tty) {
    size_t num = 0;
    while (c->env[num])
        num++;
    const char **list = mem_array(num + 2, sizeof(list[0]));
    size_t n = 0;
    if (tty) /* first: what the pod says comes later, and counts */
        list[n++] = "TERM=xterm";
    for (size_t i = 0; i < num; i++)
        list[n++] = c->env[i];
    struct replica_spec spec = {.ns = c->ns,
                                .pod = c->pod,
                                .uid = c->uid,
                                .container = c->container,
                                .env = list,
                                .user = c->user,
                                .home_dir = c->home_dir};
    char **env = spawn_env(&spec, "");
    free(list);
    return env;
}

static enum errc start(const struct exec_options *opt, const struct ends *ends, struct exec *e,
                       struct error *err) {
    const struct running *c = opt->container;
    size_t num = 0;
    while (opt->argv[num])
        num++;
    char **env = make_env(c, opt->tty);
    const char *path = env_value(env, "PATH");
    AUTO_FREE char *program = spawn_find_program(path ? path : SPAWN_USER_PATH, opt->argv[0]);
    const char **argv = mem_array(num + 1, sizeof(argv[0]));
    memcpy(argv, opt->argv, num * sizeof(argv[0]));
    argv[0] = program;
    struct spawn_plan plan = {.argv = argv,
                              .env = env,
                              .stdin_fd = ends->child_in,
                              .stdout_fd = ends->child_out,
                              .stderr_fd = ends->child_error,
                              .terminal = opt->tty,
                              .open_files_max = c->open_files_max,
                              .user = c->user,
                              .work_dir = c->work_dir ? c->work_dir : c->home_dir};
    enum errc rc = spawn_child(&plan, &e->pid, &e->pidfd, err);
    free(argv);
    spawn_env_free(env);
    return rc;
}

enum errc exec_start(const struct exec_options *opt, struct exec *ret_exec, struct error *err) {
    struct ends ends = {-1, -1, -1, -1, -1, -1};
    struct exec e = {.pidfd = -1};
    enum errc rc =
        opt->tty ? open_terminal(opt->container->user, &ends, err) : open_pipes(opt, &ends, err);
    if (!rc)
        rc = start(opt, &ends, &e, err);
    if (!rc) {
        e.stdin_fd = ends.in;
        e.stdout_fd = ends.out;
        e.stderr_fd = ends.error;
        ends.in = ends.out = ends.error = -1;
        *ret_exec = e;
    }
    close_ends(&ends);
    return rc;
}

void exec_resize(const struct exec *e, struct exec_size size) {
    struct winsize window = {.ws_row = size.rows, .ws_col = size.columns};
    if (e->stdout_fd >= 0)
        ioctl(e->stdout_fd, TIOCSWINSZ, &window);
}

int exec_stop(struct exec *e) {
    siginfo_t status = {0};
    struct pollfd p = {.fd = e->pidfd, .events = POLLIN};
    if (poll(&p, 1, 0) != 1)
        kill(e->pid, SIGKILL); /* it may have left its group */
    while (waitid(P_PIDFD, (id_t)e->pidfd, &status, WEXITED | WNOWAIT) && errno == EINTR) {}
    kill(-e->pid, SIGKILL); /* the number is the command's until it is reaped below */
    while (waitid(P_PIDFD, (id_t)e->pidfd, &status, WEXITED) && errno == EINTR) {}
    close_fd(&e->pidfd);
    return status.si_code == CLD_EXITED ? status.si_status : 128 + status.si_status;
}

void exec_end(struct exec *e) {
    if (e->pidfd >= 0)
        exec_stop(e);
    close_fd(&e->stdin_fd);
    close_fd(&e->stdout_fd);
    close_fd(&e->stderr_fd);
}
