/* A command beside a running container: as its user, with its environment, in its folder. It is the
 * child of whoever starts it, who alone owns what exec_start() gives. */
#ifndef CORE_NODE_EXEC_H
#define CORE_NODE_EXEC_H

#include "core/node/running.h"

struct exec_size {
    uint16_t rows, columns;
};

struct exec_options {
    const struct running *container;
    const char *const *argv; /* NULL-terminated; argv[0] is found by the container's PATH */
    bool stdin_open;         /* else it reads the end of file */
    bool tty; /* a pseudo-terminal is stdin, stdout and stderr, and TERM is set if it is not */
};

struct exec {
    int32_t pid;
    int pidfd;                          /* readable when the command has ended */
    int stdin_fd, stdout_fd, stderr_fd; /* non-blocking; -1: closed, or there is none. With a tty
                                           stdout_fd is the terminal, for both directions */
};

/* The command dies with the calling thread. ERR_IO says what did not work ("start NAME: ..."). */
MUST_CHECK enum errc exec_start(const struct exec_options *opt, struct exec *ret_exec,
                                struct error *err);
void exec_resize(const struct exec *e, struct exec_size size); /* of a tty; tells the command */
/* Kills the command if it has not ended yet, and what it left behind in its process group; gives
 * its exit code, 128 + signal when one ended it. Its streams stay open. */
int exec_stop(struct exec *e);
/* exec_stop() if that was not called, and closes everything. */
void exec_end(struct exec *e);

#endif
