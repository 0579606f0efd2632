/* `inferd tokenize`: what it prints and how it exits, run in a child process on a small vocabulary
 * that is written here. */
#include "engine/tokenize_command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/tokenizer_fixtures.h"

static char model[] = "/tmp/inferd-tokenize-XXXXXX", empty_dir[] = "/tmp/inferd-tokenize-XXXXXX";

static int write_model(void **state) {
    struct fixture f;
    struct gguf_writer w;
    gguf_writer_init(&w);
    fixture_byte_level(&f);
    fixture_put_byte_level(&w, &f, "gpt-2");
    gguf_writer_finish(&w);
    int fd = mkstemp(model);
    bool ok = fd >= 0 && write(fd, w.file.data, w.file.len) == (ssize_t)w.file.len;
    close(fd);
    gguf_writer_deinit(&w);
    fixture_deinit(&f);
    return ok && mkdtemp(empty_dir) ? 0 : -1;
}

static int remove_model(void **state) {
    return unlink(model) | rmdir(empty_dir);
}

/* What a temporary file holds. */
static void read_all(FILE *f, struct buf *out) {
    char block[4096];
    rewind(f);
    buf_puts(out, "");
    for (size_t n; (n = fread(block, 1, sizeof(block), f));)
        buf_append(out, block, n);
    fclose(f);
}

struct outcome {
    int status;
    struct buf out, err;
};

static void outcome_deinit(struct outcome *o) {
    buf_deinit(&o->out);
    buf_deinit(&o->err);
}

static struct outcome run(const char *input, size_t len, const char *const *words) {
    char *argv[16] = {0};
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = mem_strdup(words[argc]);
    FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();
    assert_true(in && out && err);
    assert_int_equal(fwrite(input, 1, len, in), len);
    rewind(in);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        dup2(fileno(in), 0);
        dup2(fileno(out), 1);
        dup2(fileno(err), 2);
        _exit(tokenize_command(argc, argv));
    }
    int status;
    struct outcome o = {0};
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    o.status = WEXITSTATUS(status);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    fclose(in);
    read_all(out, &o.out);
    read_all(err, &o.err);
    return o;
}

#define RUN(input, ...)                                                                            \
    run(input, strlen(input),                                                                      \
        (const char *const[]){"tokenize", "--model", model, ##__VA_ARGS__, NULL})

static void expect(struct outcome o, const char *want) {
    if (o.status)
        fail_msg("exit %d: %s", o.status, o.err.data);
    assert_string_equal(o.out.data, want);
    assert_int_equal(o.err.len, 0);
    outcome_deinit(&o);
}

static void prints_ids(void **state) {
    expect(RUN("aa"), "265\n");
    expect(RUN("aab", "--json"), "[265, 98]\n");
    expect(RUN("b<|im_end|>", "--json", "--add-special", "--parse-special"), "[274, 98, 275]\n");
    expect(RUN("", "--json"), "[]\n");
    expect(RUN("", "--json", "--add-special"), "[]\n");
    expect(RUN(""), "");
}

static void prints_text(void **state) {
    expect(RUN("[265, 98,275]", "--decode"), "aab<|im_end|>");
    expect(RUN("265\n98 275\n", "--decode", "--skip-special"), "aab");
    expect(RUN("98 34 195", "--decode", "--json"), "\"b\\\"\uFFFD\"\n");
    expect(RUN("98 32 46", "--decode", "--clean-up-spaces"), "b.");
    expect(RUN("", "--decode"), "");
}

static void expect_failure(struct outcome o, int status, const char *what) {
    assert_int_equal(o.status, status);
    assert_int_equal(o.out.len, 0);
    if (!strstr(o.err.data, what))
        fail_msg("\"%s\" does not say \"%s\"", o.err.data, what);
    if (status == 1) { /* one line */
        assert_non_null(strchr(o.err.data, '\n'));
        assert_int_equal(strchr(o.err.data, '\n')[1], '\0');
    }
    outcome_deinit(&o);
}

static void failures_take_one_line_and_exit_1(void **state) {
    expect_failure(RUN("98 x", "--decode"), 1, "byte 3: not a token id");
    expect_failure(RUN("98 1.5", "--decode"), 1, "not a token id");
    expect_failure(RUN("999", "--decode"), 1, "token id 999: the vocabulary has 0 to 277");
    expect_failure(RUN("-1", "--decode"), 1, "token id -1");
    expect_failure(
        run("98\0 99", 6, (const char *const[]){"tokenize", "--model", model, "--decode", NULL}), 1,
        "NUL");
    expect_failure(
        run("", 0, (const char *const[]){"tokenize", "--model", "/nonexistent/model.gguf", NULL}),
        1, "/nonexistent/model.gguf");
    expect_failure(run("", 0, (const char *const[]){"tokenize", "--model", empty_dir, NULL}), 1,
                   empty_dir);
}

static void bad_usage_exits_2(void **state) {
    expect_failure(RUN("", "--no-such-option"), 2, "usage: inferd tokenize");
    expect_failure(RUN("", "extra"), 2, "usage: inferd tokenize");
    expect_failure(run("", 0, (const char *const[]){"tokenize", NULL}), 2, "--model is missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_ids),
        cmocka_unit_test(prints_text),
        cmocka_unit_test(failures_take_one_line_and_exit_1),
        cmocka_unit_test(bad_usage_exits_2),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
