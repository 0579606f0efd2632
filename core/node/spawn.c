/* fork and exec of a replica.
 *
 * Between fork and exec the child of a process with threads may call only async-signal-safe
 * functions, so everything it needs is prepared before. A close-on-exec pipe carries the errno of a
 * failed step back; it reads as end of file when exec has succeeded. */
#include "core/node/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/park_message.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* A plan, and what the child needs beside it. */
struct child {
    const struct spawn_plan *plan;
    struct rlimit open_files;
    int failure_fd;
    pid_t parent;
};

enum step { STEP_EXEC, STEP_USER, STEP_FOLDER, STEP_TERMINAL };

struct failure {
    int error;
    enum step step;
};

static _Noreturn void fail(const struct child *c, enum step step) {
    struct failure failure = {errno, step};
    ssize_t n = write(c->failure_fd, &failure, sizeof(failure));
    (void)n; /* nobody else to tell */
    _exit(127);
}

/* In the child. Root's rights go with its user id; a bound on processes holds for the new user. */
static void become_user(const struct child *c) {
    uint32_t user = c->plan->user;
    struct rlimit processes = {SPAWN_USER_PROCESSES_MAX, SPAWN_USER_PROCESSES_MAX};
    setrlimit(RLIMIT_NPROC, &processes);
    /* System calls of this thread alone: libc's would stop the others, who are not here. */
    if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, user, user, user) ||
        syscall(SYS_setresuid, user, user, user))
        fail(c, STEP_USER);
    umask(022);
}

/* In the child. Async-signal-safe calls only. */
static _Noreturn void run_child(const struct child *c) {
    const struct spawn_plan *p = c->plan;
    if (!p->terminal)
        setpgid(0, 0);
    else if (setsid() < 0 || ioctl(p->stdin_fd, TIOCSCTTY, 0))
        fail(c, STEP_TERMINAL);
    if (p->user)
        become_user(c);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user takes it back */
    if (getppid() != c->parent)
        _exit(127); /* the daemon went before the line above */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_NOFILE, &c->open_files);
    for (int sig = 1; sig < NSIG; sig++) {
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(p->stdin_fd, 0) < 0 || dup2(p->stdout_fd, 1) < 0 || dup2(p->stderr_fd, 2) < 0)
        fail(c, STEP_EXEC);
    if (p->work_dir && chdir(p->work_dir))
        fail(c, STEP_FOLDER);
    syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    if (p->inherited_fd)
        fcntl(p->inherited_fd, F_SETFD, 0);
    execve(p->argv[0], (char *const *)p->argv, p->env);
    fail(c, STEP_EXEC);
}

/* A NULL-terminated list of "K=V" in which a later value of a name replaces an earlier one. */
struct env {
    char **list;
    size_t len;
};

/* Takes the entry. */
static void env_put(struct env *e, char *entry) {
    size_t name = strcspn(entry, "=") + 1;
    size_t i = 0;
    while (i < e->len && strncmp(e->list[i], entry, name) != 0)
        i++;
    if (i < e->len)
        free(e->list[i]);
    else
        e->len++;
    e->list[i] = entry;
}

static void put_daemon_env(struct env *e, const char *termination_log) {
    static const char *const kept[] = {"PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        const char *value = getenv(kept[i]);
        if (value)
            env_put(e, mem_printf("%s=%s", kept[i], value));
    }
    env_put(e, mem_printf("INFERD_TERMINATION_LOG=%s", termination_log));
}

/* Nothing of the daemon's own. */
static void put_user_env(struct env *e, const char *home_dir) {
    env_put(e, mem_printf("PATH=%s", SPAWN_USER_PATH));
    env_put(e, mem_printf("HOME=%s", home_dir));
    env_put(e, mem_printf("TMPDIR=%s/tmp", home_dir));
}

char **spawn_env(const struct replica_spec *spec, const char *termination_log) {
    size_t num_extra = 0;
    while (spec->env && spec->env[num_extra])
        num_extra++;
    struct env e = {.list = mem_array(num_extra + 16, sizeof(char *))};
    if (spec->user)
        put_user_env(&e, spec->home_dir);
    else
        put_daemon_env(&e, termination_log);
    env_put(&e, mem_printf("POD_NAME=%s", spec->pod));
    env_put(&e, mem_printf("POD_NAMESPACE=%s", spec->ns));
    env_put(&e, mem_printf("POD_UID=%s", spec->uid));
    env_put(&e, mem_printf("CONTAINER_NAME=%s", spec->container));
    env_put(&e, mem_printf("HOSTNAME=%s", spec->pod));
    for (size_t i = 0; i < num_extra; i++)
        env_put(&e, mem_strdup(spec->env[i]));
    return e.list;
}

void spawn_env_free(char **env) {
    for (char **e = env; e && *e; e++)
        free(*e);
    free(env);
}

char *spawn_find_program(const char *path, const char *name) {
    if (strchr(name, '/'))
        return mem_strdup(name);
    for (; *path; path += *path == ':') {
        size_t len = strcspn(path, ":");
        AUTO_FREE char *file = mem_printf("%.*s/%s", (int)len, path, name);
        if (len && !access(file, X_OK))
            return steal(file);
        path += len;
    }
    return mem_strdup(name);
}

static int steal_fd(int *fd) {
    int was = *fd;
    *fd = -1;
    return was;
}

struct pipes {
    int in, out[2], error[2];
};

static void close_pipes(struct pipes *p) {
    int *fds[] = {&p->in, &p->out[0], &p->out[1], &p->error[0], &p->error[1]};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static enum errc open_pipes(struct pipes *p, struct error *err) {
    *p = (struct pipes){-1, {-1, -1}, {-1, -1}};
    p->in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (p->in < 0 || pipe2(p->out, O_CLOEXEC) || pipe2(p->error, O_CLOEXEC)) {
        enum errc rc = err_errno(err, "make pipes of a replica");
        close_pipes(p);
        return rc;
    }
    return OK;
}

static struct rlimit open_files_limit(int64_t wanted) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (wanted > 0 && (rlim_t)wanted < limit.rlim_max)
        limit.rlim_max = (rlim_t)wanted;
    limit.rlim_cur = limit.rlim_max;
    return limit;
}

/* Waits for exec's verdict. */
static enum errc confirm(pid_t pid, const struct spawn_plan *plan, int failure_fd,
                         struct error *err) {
    struct failure failure = {0};
    ssize_t n;
    do
        n = read(failure_fd, &failure, sizeof(failure));
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return OK;
    waitpid(pid, NULL, 0);
    errno = failure.error;
    switch (failure.step) {
    case STEP_USER:
        return err_errno(err, "become user %u (inferd must run as root for that)", plan->user);
    case STEP_FOLDER:
        return err_errno(err, "enter folder %s as user %u", plan->work_dir, plan->user);
    case STEP_TERMINAL:
        return err_errno(err, "make a terminal the controlling one");
    default:
        return err_errno(err, "start %s", plan->argv[0]);
    }
}

enum errc spawn_child(const struct spawn_plan *plan, int32_t *ret_pid, int *ret_pidfd,
                      struct error *err) {
    int failure[2];
    if (pipe2(failure, O_CLOEXEC))
        return err_errno(err, "make a pipe for a child's errors");
    struct child child = {.plan = plan,
                          .open_files = open_files_limit(plan->open_files_max),
                          .failure_fd = failure[1],
                          .parent = getpid()};
    pid_t pid = fork();
    if (!pid)
        run_child(&child);
    enum errc rc = pid < 0 ? err_errno(err, "fork") : OK;
    close(failure[1]);
    if (!rc)
        rc = confirm(pid, plan, failure[0], err);
    close(failure[0]);
    if (rc)
        return rc;
    *ret_pid = pid;
    *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (*ret_pidfd >= 0)
        return OK;
    rc = err_errno(err, "pidfd_open");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return rc;
}

/* Appends to a list that has room for it. */
static void name_park_fd(char **env, int park_fd) {
    while (*env)
        env++;
    *env = mem_printf("%s=%d", PARK_FD_ENV, park_fd);
}

enum errc spawn_process(const struct replica_spec *spec, const char *termination_log, int park_fd,
                        struct spawned *ret_child, struct error *err) {
    struct pipes p;
    enum errc rc = open_pipes(&p, err);
    if (rc)
        return rc;
    char **env = spawn_env(spec, termination_log);
    if (park_fd)
        name_park_fd(env, park_fd);
    struct spawn_plan plan = {.argv = spec->argv,
                              .env = env,
                              .stdin_fd = p.in,
                              .stdout_fd = p.out[1],
                              .stderr_fd = p.error[1],
                              .open_files_max = spec->open_files_max,
                              .inherited_fd = park_fd,
                              .user = spec->user,
                              .work_dir = spec->work_dir ? spec->work_dir : spec->home_dir};
    unlink(termination_log);
    *ret_child = (struct spawned){.stdout_fd = -1, .stderr_fd = -1};
    rc = spawn_child(&plan, &ret_child->pid, &ret_child->pidfd, err);
    if (!rc) {
        ret_child->stdout_fd = steal_fd(&p.out[0]);
        ret_child->stderr_fd = steal_fd(&p.error[0]);
    }
    spawn_env_free(env);
    close_pipes(&p);
    return rc;
}
