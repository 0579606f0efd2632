/* Weights that one runner packs and the next one maps, with this test as the daemon between them:
 * its answers lie in the socket before they are asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/park_message.h"
#include "engine/cpu/kernels.h"
#include "engine/model_fixture.h"
#include "engine/runner_fixture.h"
#include "engine/weights_share.h"

enum { VOCAB = 77, LEN = 40 };

static const struct model_shape shape = {"llama", 2, 96, 3, 1, 32, 160, VOCAB, .q8_0 = true};

/* A replica, and the daemon's end of its socket. */
struct side {
    int daemon;
    struct weights_share *share;
};

/* The file of a model, removed with it. */
struct file {
    struct model_fixture f;
    char *path;
};

static void file_write(struct file *file) {
    model_fixture_init(&file->f, shape);
    file->path = fixture_write_gguf(&file->f);
}

static void file_remove(struct file *file) {
    model_fixture_deinit(&file->f);
    free(file->path);
}
#define AUTO_FILE __attribute__((cleanup(file_remove))) struct file

/* Written so many hours ago, if one believes it. */
static void set_age(const struct file *file, int hours) {
    struct timespec then = {.tv_sec = time(NULL) - 3600 * hours};
    assert_int_equal(utimensat(AT_FDCWD, file->path, (struct timespec[2]){then, then}, 0), 0);
}

static struct model *open_old(const struct file *file) {
    set_age(file, 1);
    return fixture_model(file->path);
}

static struct side connect_side(void) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    return (struct side){ends[0], weights_share_open(ends[1])};
}

static void side_close(struct side *s) {
    weights_share_close(s->share);
    close(s->daemon);
}

static void will_answer(const struct side *s, enum park_say what, int fd) {
    struct error err = ERROR_INIT;
    struct park_message m = {.say = what};
    if (park_send(s->daemon, &m, fd, &err))
        fail_msg("%s", err.text);
}

/* What the replica says next; its descriptor, -1: none. */
static enum park_say said(const struct side *s, int *ret_fd) {
    struct error err = ERROR_INIT;
    struct park_message m;
    *ret_fd = -1;
    if (park_receive(s->daemon, &m, ret_fd, &err))
        fail_msg("%s", err.text);
    return m.say;
}

static void ask(const struct side *s, const struct model *m) {
    weights_share_ask(s->share, m, cpu_kernels_best()->name, runner_model_bytes(m));
}

static struct runner *make_runner(const struct model *m, struct weights_share *share) {
    struct error err = ERROR_INIT;
    struct runner *r = NULL;
    struct runner_options opt = {
        .num_blocks = FIXTURE_SEQS * FIXTURE_SEQ_BLOCKS,
        .block_size = FIXTURE_BLOCK_SIZE,
        .num_tokens_max = FIXTURE_STEP_TOKENS,
        .num_seqs_max = FIXTURE_SEQS,
        .num_logits_max = FIXTURE_STEP_TOKENS,
        .seq_len_max = FIXTURE_SEQ_TOKENS,
        .num_threads = 2,
        .share = share,
    };
    if (runner_create(m, &opt, &r, &err))
        fail_msg("%s", err.text);
    return r;
}

static float *logits_of(const struct model *m, struct weights_share *share) {
    AUTO(runner) r = make_runner(m, share);
    struct fixture_seq seq = {.index = 3, .num_ids = LEN};
    for (int32_t i = 0; i < LEN; i++)
        seq.ids[i] = (i * i * 31 + i * 7) % VOCAB;
    float *logits = mem_array((size_t)LEN * VOCAB, sizeof(*logits));
    fixture_forward(r, &(struct fixture_part){&seq, LEN, true}, 1, logits);
    return logits;
}

static void check_same_logits(const struct model *m, struct weights_share *share) {
    AUTO_FREE float *own = logits_of(m, NULL), *shared = logits_of(m, share);
    assert_memory_equal(own, shared, LEN * VOCAB * sizeof(float));
}

/* A replica makes the weights; the descriptor that it puts, -1: it puts none. */
static int make_weights(const struct model *m) {
    struct side s = connect_side();
    int fd;
    will_answer(&s, PARK_MAKE, -1);
    ask(&s, m);
    assert_null(weights_share_found(s.share));
    check_same_logits(m, s.share);
    assert_int_equal(said(&s, &fd), PARK_ASK);
    enum park_say what = said(&s, &fd);
    assert_true(what == (fd >= 0 ? PARK_PUT : PARK_KEEP));
    side_close(&s);
    return fd;
}

static bool is_refused(const struct model *m, int fd) {
    struct side s = connect_side();
    int none;
    will_answer(&s, PARK_HAVE, fd);
    ask(&s, m);
    bool found = weights_share_found(s.share) != NULL;
    if (!found)
        check_same_logits(m, s.share);
    assert_int_equal(said(&s, &none), PARK_ASK);
    if (!found)
        assert_int_equal(said(&s, &none), PARK_KEEP);
    side_close(&s);
    return !found;
}

static void the_next_runner_computes_the_same_with_what_the_last_one_packed(void **state) {
    AUTO_FILE file;
    file_write(&file);
    AUTO(model) m = open_old(&file);
    int fd = make_weights(m);
    assert_true(fd >= 0);
    struct side s = connect_side();
    will_answer(&s, PARK_HAVE, fd);
    ask(&s, m);
    assert_non_null(weights_share_found(s.share));
    check_same_logits(m, s.share);
    side_close(&s);
    close(fd);
}

static void nobody_can_change_them_afterwards(void **state) {
    AUTO_FILE file;
    file_write(&file);
    AUTO(model) m = open_old(&file);
    int fd = make_weights(m);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(park_is_sealed(fd, (uint64_t)st.st_size));
    AUTO_FREE char *again = mem_printf("/proc/self/fd/%d", fd);
    int writable = open(again, O_RDWR | O_CLOEXEC);
    if (writable >= 0) {
        assert_int_equal(pwrite(writable, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable, 0),
                         MAP_FAILED);
        assert_int_equal(ftruncate(writable, 0), -1);
        close(writable);
    }
    close(fd);
}

static void weights_of_another_file_are_refused(void **state) {
    AUTO_FILE file, other_file;
    file_write(&file);
    file_write(&other_file);
    AUTO(model) m = open_old(&file);
    AUTO(model) other = open_old(&other_file);
    int fd = make_weights(m);
    assert_false(is_refused(m, fd));
    assert_true(is_refused(other, fd)); /* the same bytes, even, in another file */
    close(fd);
}

static void weights_of_a_file_that_has_changed_since_are_refused(void **state) {
    AUTO_FILE file;
    file_write(&file);
    int fd;
    {
        AUTO(model) m = open_old(&file);
        fd = make_weights(m);
    }
    AUTO(model) again = fixture_model(file.path);
    assert_false(is_refused(again, fd));
    set_age(&file, 2);
    AUTO(model) changed = fixture_model(file.path);
    assert_true(is_refused(changed, fd));
    close(fd);
}

static void what_is_not_sealed_or_cut_short_is_refused(void **state) {
    AUTO_FILE file;
    file_write(&file);
    AUTO(model) m = open_old(&file);
    struct error err = ERROR_INIT;
    int fd = make_weights(m);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    AUTO_FREE char *bytes = mem_alloc((size_t)st.st_size);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(copy, bytes, (size_t)st.st_size), st.st_size);
    assert_true(is_refused(m, copy));
    int shorter = memfd_create("shorter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(shorter, bytes, (size_t)st.st_size - 1), st.st_size - 1);
    assert_int_equal(park_seal(shorter, &err), OK);
    assert_true(is_refused(m, shorter));
    assert_true(is_refused(m, -1)); /* the daemon forgot it */
    close(copy);
    close(shorter);
}

static void a_file_that_is_written_to_meanwhile_is_not_shared(void **state) {
    AUTO_FILE file;
    file_write(&file);
    {
        AUTO(model) fresh = fixture_model(file.path); /* written a moment ago */
        assert_int_equal(make_weights(fresh), -1);
    }
    AUTO(model) m = open_old(&file);
    set_age(&file, 2);
    assert_int_equal(make_weights(m), -1);
}

static void without_a_daemon_a_runner_has_weights_of_its_own(void **state) {
    AUTO_FILE file;
    file_write(&file);
    AUTO(model) m = open_old(&file);
    struct side s = connect_side();
    close(s.daemon);
    ask(&s, m);
    assert_null(weights_share_found(s.share));
    check_same_logits(m, s.share);
    weights_share_close(s.share);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_runner_computes_the_same_with_what_the_last_one_packed),
        cmocka_unit_test(nobody_can_change_them_afterwards),
        cmocka_unit_test(weights_of_another_file_are_refused),
        cmocka_unit_test(weights_of_a_file_that_has_changed_since_are_refused),
        cmocka_unit_test(what_is_not_sealed_or_cut_short_is_refused),
        cmocka_unit_test(a_file_that_is_written_to_meanwhile_is_not_shared),
        cmocka_unit_test(without_a_daemon_a_runner_has_weights_of_its_own),
    };
    if (!cpu_kernels_best()->packed_matmul) {
        print_message(
            "skipped: this processor multiplies weights as they are, nothing is packed\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
