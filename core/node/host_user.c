/* Users and homes of host pods.
 *
 * A user id of the configured range belongs to one pod at a time, so "all processes of this user"
 * is the pod, however its processes have forked and left their process group. The kernel does the
 * counting: a process that has become the user sends a signal to everybody it may.
 *
 * A home lies in its pod's folder, HOMES/UID/CONTAINER-RUN, and goes with the run; the pod's folder
 * with the pod. */
#include "core/node/host_user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/node/process.h"
#include "core/node/trash.h"

enum { ENVIRON_BYTES_MAX = 256 * 1024, STATUS_BYTES_MAX = 512 };
enum { EXEC_LOOKS = 1000, EMPTY_LOOKS = 5 };

enum errc host_parents_make(const char *dir, struct error *err) {
    AUTO_FREE char *path = mem_strdup(dir);
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (mkdir(path, 0711) && errno != EEXIST)
            return err_errno(err, "make folder %s", path);
        *p = '/';
    }
    return OK;
}

enum errc host_home_make(const char *dir, uint32_t user, struct error *err) {
    if (host_parents_make(dir, err))
        return err->code;
    if (mkdir(dir, 0700) || chown(dir, user, user))
        return err_errno(err, "make folder %s", dir);
    AUTO_FREE char *tmp = mem_printf("%s/tmp", dir);
    if (mkdir(tmp, 0700) || chown(tmp, user, user))
        return err_errno(err, "make folder %s", tmp);
    return OK;
}

void host_home_remove(const char *dir) {
    trash_remove_tree(dir, NULL, NULL);
}

/* "01234567-0123-0123-0123-0123456789ab". The folder is the administrator's choice: whatever else
 * he has in it stays. */
static bool is_uid(const char *name) {
    static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    size_t i = 0;
    for (; shape[i]; i++) {
        bool fits =
            shape[i] == 'x' ? name[i] && strchr("0123456789abcdef", name[i]) : name[i] == shape[i];
        if (!fits)
            return false;
    }
    return !name[i];
}

void host_homes_clear(const char *homes_dir, struct trash *trash) {
    DIR *d = opendir(homes_dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        AUTO_FREE char *folder = mem_printf("%s/%s", homes_dir, e->d_name);
        if (is_uid(e->d_name))
            trash_throw(trash, folder);
    }
    closedir(d);
}

void host_user_end(uint32_t user) {
    ASSERT(user); /* root's processes are everybody's */
    pid_t pid = fork();
    if (!pid) {
        /* System calls of this thread alone: libc's would stop the others, who are not here. */
        if (!syscall(SYS_setresuid, user, user, user))
            kill(-1, SIGKILL);
        _exit(0);
    }
    if (pid > 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

/* The first bytes of a file of /proc, with a NUL behind; gives how many. */
static size_t read_start(int pid, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    for (ssize_t n = 1; fd >= 0 && n > 0 && len<size - 1; len += n> 0 ? (size_t)n : 0)
        n = read(fd, text + len, size - 1 - len);
    if (fd >= 0)
        close(fd);
    text[len] = '\0';
    return len;
}

/* By the status, not by who owns the files of /proc: those are root's where a process may not be
 * traced, and it can choose that itself. */
static bool is_of_user(int pid, uint32_t user) {
    char text[STATUS_BYTES_MAX];
    unsigned uid = 0;
    read_start(pid, "status", text, sizeof(text));
    const char *line = strstr(text, "\nUid:");
    return line && sscanf(line, "\nUid: %u", &uid) == 1 && uid == user;
}

/* In the middle of an exec a process has neither arguments nor an environment yet: then it is
 * looked at again every millisecond, for a second at most, unless it ends. One that has arguments
 * and, several times, no environment has none for ever. */
static size_t read_environment(int pid, char *text) {
    char argument[2];
    size_t len = read_start(pid, "environ", text, ENVIRON_BYTES_MAX);
    struct pollfd end = {.fd = -1, .events = POLLIN};
    for (int look = 0, empty = 0; !len && look < EXEC_LOOKS && empty < EMPTY_LOOKS; look++) {
        bool runs = read_start(pid, "cmdline", argument, sizeof(argument));
        empty += runs;
        if (end.fd < 0)
            end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (!runs && (end.fd < 0 || poll(&end, 1, 1)))
            break;
        len = read_start(pid, "environ", text, ENVIRON_BYTES_MAX);
    }
    if (end.fd >= 0)
        close(end.fd);
    return len;
}

/* Both entries; the second may be NULL. */
static bool has_in_environment(int pid, const char *entry, const char *other) {
    AUTO_FREE char *text = mem_alloc(ENVIRON_BYTES_MAX);
    size_t len = read_environment(pid, text);
    bool first = false, second = !other;
    for (char *p = text; p < text + len; p += strlen(p) + 1) {
        first = first || !strcmp(p, entry);
        second = second || !strcmp(p, other);
    }
    return first && second;
}

/* group 0: by the environment only. */
static void end_marked(uint32_t user, int32_t group, const char *entry, const char *other,
                       uint64_t before_ticks) {
    DIR *d = opendir("/proc");
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        int pid = (int)strtol(e->d_name, NULL, 10); /* 0: it is no process */
        if (pid <= 1 || !is_of_user(pid, user))
            continue;
        struct process_stat stat;
        if (before_ticks && (!process_stat_read(pid, &stat) || stat.start_ticks >= before_ticks))
            continue;
        if ((group && getpgid(pid) == group) || has_in_environment(pid, entry, other))
            kill(pid, SIGKILL);
    }
    closedir(d);
}

void host_user_end_pod(uint32_t user, int32_t group, const char *pod_uid, uint64_t before_ticks) {
    AUTO_FREE char *entry = mem_printf("POD_UID=%s", pod_uid);
    end_marked(user, group, entry, NULL, before_ticks);
}

void host_user_end_container(uint32_t user, const char *pod_uid, const char *container) {
    AUTO_FREE char *entry = mem_printf("POD_UID=%s", pod_uid);
    AUTO_FREE char *name = mem_printf("CONTAINER_NAME=%s", container);
    end_marked(user, 0, entry, name, 0);
}
