/* The memory file:
 *
 *        0  "inferd packed weights", format, and what they were made from, as lines of text; a zero
 *   128 Ki  the packed matrices, in the runner's order (runner_weights.c)
 *
 * The text has no length and no checksum: it is compared with the text that this process makes
 * itself, zero included. The name under which the daemon keeps the file is a hash of it.
 *
 * Two rules make stale weights impossible. The files' identity is taken from the descriptors that
 * were mapped, and looked at again when packing is over: a file that was written to meanwhile, or
 * so shortly before that its time could be the same, is not shared. And the program's own file is
 * part of the text, so that another build, which may pack otherwise, shares nothing with this one.
 *
 * Sealing against writes wants that nobody could write through a mapping. The maker therefore maps
 * the file anew, read-only, through a descriptor that is open for reading only (which kernels
 * before 6.7 want of every later mapping as well); that descriptor is the one that is passed on. */
#include "engine/weights_share.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/park_message.h"
#include "engine/cpu/packed.h"
#include "engine/cpu/thread_pool.h"
#include "engine/file_map.h"
#include "engine/model.h"
#include "engine/siphash.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { LARGE_PAGE_BYTES = 2 << 20 };

static const uint64_t HASH_KEY[2] = {0x6465726173207369, 0x2073746867696577};

struct weights_share {
    int socket; /* -1: nobody is there (any more) */
    const struct model *model;
    struct buf text;       /* what the file has to begin with */
    uint64_t file_bytes;   /* header and weights */
    struct park_message m; /* key, bytes and name of all messages */
    uint8_t *mapping;      /* NULL: none */
    int fd;                /* of a file that is being filled; -1: none */
    bool found;
};

struct weights_share *weights_share_open(int socket) {
    struct weights_share *s = mem_alloc(sizeof(*s));
    s->socket = socket;
    s->fd = -1;
    return s;
}

struct weights_share *weights_share_inherited(void) {
    const char *text = getenv(PARK_FD_ENV);
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    if (fd < 0 || fd > INT32_MAX || *end || fcntl((int)fd, F_SETFD, FD_CLOEXEC))
        return NULL;
    return weights_share_open((int)fd);
}

static void forget_socket(struct weights_share *s) {
    if (s->socket >= 0)
        close(s->socket);
    s->socket = -1;
}

static void unmap(struct weights_share *s) {
    if (s->mapping)
        munmap(s->mapping, s->file_bytes);
    s->mapping = NULL;
}

void weights_share_close(struct weights_share *s) {
    if (!s)
        return;
    unmap(s);
    if (s->fd >= 0)
        close(s->fd);
    forget_socket(s);
    buf_deinit(&s->text);
    free(s);
}

static bool say(struct weights_share *s, enum park_say what, int fd) {
    struct error err = ERROR_INIT;
    s->m.say = what;
    if (s->socket >= 0 && !park_send(s->socket, &s->m, fd, &err))
        return true;
    forget_socket(s);
    return false;
}

/* These weights stay this process's own. */
static void keep_own(struct weights_share *s, const char *why) {
    struct log_quoted q;
    say(s, PARK_KEEP, -1);
    log_warn("weights are not shared with other replicas, going on with a copy of its own",
             "reason=%s", log_quote(&q, why));
}

/* ---- asking ---- */

/* False: the program's own file cannot be found. */
static bool describe(struct weights_share *s, const char *kernels, uint64_t bytes) {
    struct file_identity id;
    struct error err = ERROR_INIT;
    buf_clear(&s->text);
    if (file_identity_of("/proc/self/exe", &id, &err))
        return false;
    buf_printf(&s->text,
               "inferd packed weights\nformat %d\nprogram device=%" PRIu64 " inode=%" PRIu64
               " bytes=%" PRIu64 " modified=%" PRId64 "\nkernels %s\nbytes %" PRIu64 "\n",
               PACKED_FORMAT, id.device, id.inode, id.bytes, id.modified_ns, kernels, bytes);
    model_identify(s->model, &s->text);
    return true;
}

/* A region of addresses, aligned to large pages. NULL: there is none. */
static uint8_t *reserve(uint64_t bytes) {
    uint64_t more = bytes + LARGE_PAGE_BYTES;
    uint8_t *p = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = (LARGE_PAGE_BYTES - (uintptr_t)p % LARGE_PAGE_BYTES) % LARGE_PAGE_BYTES;
    if (before)
        munmap(p, before);
    uint64_t kept = (bytes + 4095) / 4096 * 4096;
    if (more - before > kept)
        munmap(p + before + kept, more - before - kept);
    return p + before;
}

static bool map_at(uint8_t *at, uint64_t bytes, int protection, int fd) {
    return mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
}

/* Maps what another replica made, if it is what this one would make. */
static void take_found(struct weights_share *s, int fd) {
    if (!park_is_sealed(fd, s->file_bytes)) {
        keep_own(s, "what the daemon has is not sealed, or of another size");
        return;
    }
    s->mapping = reserve(s->file_bytes);
    if (!s->mapping || !map_at(s->mapping, s->file_bytes, PROT_READ, fd)) {
        unmap(s);
        keep_own(s, "what the daemon has cannot be mapped");
        return;
    }
    if (memcmp(s->mapping, s->text.data, s->text.len + 1) != 0) {
        unmap(s);
        keep_own(s, "what the daemon has was made from something else");
        return;
    }
    s->found = true;
    log_info("weights are in memory already", "bytes=%" PRIu64, s->file_bytes);
}

void weights_share_ask(struct weights_share *s, const struct model *m, const char *kernels,
                       uint64_t bytes) {
    struct park_message answer;
    struct error err = ERROR_INIT;
    int fd = -1;
    s->model = m;
    if (s->socket < 0)
        return;
    if (!describe(s, kernels, bytes) || s->text.len >= WEIGHTS_SHARE_HEADER_BYTES) {
        keep_own(s, "the description of its files is too long");
        forget_socket(s);
        return;
    }
    struct siphash hash = siphash(HASH_KEY, s->text.data, s->text.len);
    s->file_bytes = WEIGHTS_SHARE_HEADER_BYTES + bytes;
    s->m = (struct park_message){.key = {hash.lo, hash.hi}, .bytes = s->file_bytes};
    snprintf(s->m.name, sizeof(s->m.name), "%s", model_config(m)->name);
    struct pollfd p = {.fd = s->socket, .events = POLLIN};
    if (!say(s, PARK_ASK, -1) || poll(&p, 1, WEIGHTS_SHARE_WAIT_MS_MAX) != 1 ||
        park_receive(s->socket, &answer, &fd, &err)) {
        keep_own(s, "the daemon does not answer");
        forget_socket(s);
        return;
    }
    if (answer.say == PARK_HAVE)
        take_found(s, fd);
    if (answer.say == PARK_HAVE && !s->found)
        forget_socket(s); /* nothing is to be made */
    if (fd >= 0)
        close(fd);
}

const uint8_t *weights_share_found(const struct weights_share *s) {
    return s->found ? s->mapping + WEIGHTS_SHARE_HEADER_BYTES : NULL;
}

bool weights_share_in_use(const struct weights_share *s) {
    return s->mapping != NULL;
}

/* ---- making ---- */

/* What the items of populate() need to know. */
struct populating {
    struct weights_share *s;
    _Atomic int error; /* of one that failed; 0: none did */
};

static void populate_piece(void *arg, uint32_t item, uint32_t thread) {
    struct populating *p = arg;
    uint64_t at = (uint64_t)item * LARGE_PAGE_BYTES, left = p->s->file_bytes - at;
    if (madvise(p->s->mapping + at, left < LARGE_PAGE_BYTES ? left : LARGE_PAGE_BYTES,
                MADV_POPULATE_WRITE))
        p->error = errno;
}

/* Takes the memory, so that there is an error now instead of a signal later. */
static bool populate(struct weights_share *s, struct thread_pool *pool) {
    struct populating p = {.s = s};
    uint64_t num = (s->file_bytes + LARGE_PAGE_BYTES - 1) / LARGE_PAGE_BYTES;
    if (num > UINT32_MAX)
        return false;
    thread_pool_run(pool, populate_piece, &p, (uint32_t)num);
    if (p.error == EINVAL) /* the kernel is older than 5.14 */
        return !fallocate(s->fd, 0, 0, (off_t)s->file_bytes);
    errno = p.error;
    return !p.error;
}

static bool make_file(struct weights_share *s, struct thread_pool *pool) {
    s->fd = memfd_create("inferd-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (s->fd < 0)
        return false;
    if (!ftruncate(s->fd, (off_t)s->file_bytes))
        s->mapping = reserve(s->file_bytes);
    if (s->mapping && map_at(s->mapping, s->file_bytes, PROT_READ | PROT_WRITE, s->fd) &&
        populate(s, pool))
        return true;
    int because = errno;
    unmap(s);
    close(s->fd);
    s->fd = -1;
    errno = because;
    return false;
}

uint8_t *weights_share_begin(struct weights_share *s, struct thread_pool *pool) {
    if (s->socket < 0 || !s->file_bytes)
        return NULL;
    if (!make_file(s, pool)) {
        AUTO_FREE char *why = mem_printf("no memory to share, %" PRIu64 " MB wanted: %s",
                                         s->file_bytes >> 20, strerror(errno));
        keep_own(s, why);
        return NULL;
    }
    memcpy(s->mapping, s->text.data, s->text.len + 1);
    return s->mapping + WEIGHTS_SHARE_HEADER_BYTES;
}

enum errc weights_share_finish(struct weights_share *s, struct error *err) {
    struct error seal_err = ERROR_INIT;
    enum errc rc = OK;
    AUTO_FREE char *path = mem_printf("/proc/self/fd/%d", s->fd);
    int readable = open(path, O_RDONLY | O_CLOEXEC);
    if (readable < 0) {
        keep_own(s, "its memory file cannot be opened again");
    } else if (!map_at(s->mapping, s->file_bytes, PROT_READ, readable)) {
        rc = err_errno(err, "map the packed weights anew");
    } else if (park_seal(s->fd, &seal_err)) {
        keep_own(s, seal_err.text);
    } else if (!model_is_settled(s->model, clock_wall_ms())) {
        keep_own(s, "the model's files have been written to just now");
    } else {
        say(s, PARK_PUT, readable);
    }
    if (readable >= 0)
        close(readable);
    close(s->fd);
    s->fd = -1;
    return rc;
}
