/* Orphans.
 *
 * A container's process asks the kernel for SIGKILL when the daemon's thread goes, so it dies with
 * a daemon that is killed. What it had started does not: those processes are told by their user
 * together with their process group or the pod's uid in their environment (host_user.h).
 *
 * Two come after them. The reaper is a small process beside the daemon, forked while there was one
 * thread, which waits for the end of a pipe whose other end only the daemon holds. It ends what
 * this daemon had noted and what began before the daemon's end: processes of the next daemon, which
 * may already run the same pod, are younger. The next daemon does the same for all that is noted,
 * should the reaper have been killed, too. */
#include "core/node/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/node/host_user.h"
#include "core/node/process.h"

enum { ORPHAN_WAIT_MS = 5000, REAPER_ROUNDS = 2 /* what forked meanwhile */ };

struct note {
    int pid;
    unsigned long long started;
    unsigned user;
    int daemon_pid;
    unsigned long long daemon_started;
};

/* 0: no such process. */
static unsigned long long start_time(pid_t pid) {
    struct process_stat stat;
    return process_stat_read(pid, &stat) ? stat.start_ticks : 0;
}

void orphans_note(const char *path, int32_t pid, uint32_t user) {
    FILE *f = fopen(path, "we");
    if (!f)
        return;
    fprintf(f, "%d %llu %u %d %llu\n", pid, start_time(pid), user, getpid(), start_time(getpid()));
    fclose(f);
}

/* Gives how many fields there are. */
static int read_note(const char *path, struct note *n) {
    FILE *f = fopen(path, "re");
    *n = (struct note){0};
    if (!f)
        return 0;
    int fields = fscanf(f, "%d %llu %u %d %llu", &n->pid, &n->started, &n->user, &n->daemon_pid,
                        &n->daemon_started);
    fclose(f);
    return fields;
}

/* Calls fn with each note's path and the pod's uid. */
static void each_note(const char *run_dir,
                      void (*fn)(const char *path, const char *uid, void *user), void *user) {
    DIR *d = opendir(run_dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        AUTO_FREE char *path = mem_printf("%s/%s", run_dir, e->d_name);
        AUTO_FREE char *uid = mem_strndup(e->d_name, strcspn(e->d_name, "_."));
        if (dot && !strcmp(dot, ".pid"))
            fn(path, uid, user);
    }
    closedir(d);
}

/* ---- at the next start ---- */

/* Kills the process group named by one note, if it is still the process that was meant. */
static void end_one(const char *path, const char *uid, void *user) {
    struct note n;
    int fields = read_note(path, &n);
    unlink(path);
    if (fields >= 3 && n.user && n.pid > 1)
        host_user_end_pod(n.user, n.pid, uid, 0);
    if (fields < 2 || n.pid <= 1 || !n.started || start_time(n.pid) != n.started)
        return;
    int pidfd = (int)syscall(SYS_pidfd_open, n.pid, 0);
    log_warn("ending a replica that an earlier daemon left", "pid=%d", n.pid);
    kill(-n.pid, SIGKILL);
    kill(n.pid, SIGKILL);
    if (pidfd < 0)
        return;
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    if (poll(&p, 1, ORPHAN_WAIT_MS) <= 0)
        log_error("an orphan does not end", "pid=%d waited_ms=%d", n.pid, ORPHAN_WAIT_MS);
    close(pidfd);
}

void orphans_end(const char *run_dir) {
    static const char *const stale[] = {".sock", ".termination"};
    each_note(run_dir, end_one, NULL);
    DIR *d = opendir(run_dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        for (size_t i = 0; dot && i < ARRAY_LEN(stale); i++) {
            if (!strcmp(dot, stale[i]))
                unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    closedir(d);
}

/* ---- the reaper ---- */

struct watched {
    int daemon_pid;
    unsigned long long daemon_started, ended; /* ticks since boot */
};

static void reap_one(const char *path, const char *uid, void *user) {
    const struct watched *w = user;
    struct note n;
    if (read_note(path, &n) == 5 && n.user && n.pid > 1 && n.daemon_pid == w->daemon_pid &&
        n.daemon_started == w->daemon_started)
        host_user_end_pod(n.user, n.pid, uid, w->ended);
}

static unsigned long long ticks_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    unsigned long long hz = (unsigned long long)sysconf(_SC_CLK_TCK);
    return (unsigned long long)t.tv_sec * hz + (unsigned long long)t.tv_nsec * hz / 1000000000;
}

static _Noreturn void reap(const char *run_dir, int fd, struct watched w) {
    char c;
    setsid(); /* Ctrl-C at the daemon's terminal is not for it */
    prctl(PR_SET_NAME, "inferd-reaper");
    signal(SIGPIPE, SIG_IGN);
    while (read(fd, &c, 1) < 0 && errno == EINTR) {}
    w.ended = ticks_now() + 1;
    for (int round = 0; round < REAPER_ROUNDS; round++)
        each_note(run_dir, reap_one, &w);
    _exit(0);
}

enum errc orphans_watch(const char *run_dir, int *ret_fd, struct error *err) {
    int ends[2], status = 0;
    const struct watched w = {.daemon_pid = getpid(), .daemon_started = start_time(getpid())};
    if (pipe2(ends, O_CLOEXEC))
        return err_errno(err, "make the reaper's pipe");
    pid_t pid = fork();
    if (!pid) { /* forks once more: the reaper is nobody's child who would have to wait for it */
        close(ends[1]);
        pid_t reaper = fork();
        if (!reaper)
            reap(run_dir, ends[0], w);
        _exit(reaper < 0);
    }
    close(ends[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (pid < 0 || status) {
        close(ends[1]);
        return err_set(err, ERR_EXHAUSTED, "start the reaper: fork failed");
    }
    *ret_fd = ends[1];
    return OK;
}
