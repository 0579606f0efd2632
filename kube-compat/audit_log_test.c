#include "kube-compat/audit_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buf.h"

static char dir[64], path[96];
static struct metrics *metrics;

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/inferd-audit-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/audit.log", dir);
    metrics = metrics_create();
    return 0;
}

static int teardown(void **state) {
    for (int i = 0; i < 20; i++) {
        char file[128];
        snprintf(file, sizeof(file), i ? "%s.%d" : "%s", path, i);
        unlink(file);
    }
    metrics_destroy(metrics);
    return rmdir(dir);
}

static struct audit_log *open_log(const char *file, int64_t bytes_max, int64_t files_max,
                                  int64_t days_max) {
    struct audit_log *log = NULL;
    struct error err = ERROR_INIT;
    struct audit_log_options opt = {.path = file,
                                    .file_bytes_max = bytes_max,
                                    .files_max = files_max,
                                    .days_max = days_max,
                                    .metrics = metrics};
    if (audit_log_open(&opt, &log, &err))
        fail_msg("%s", err.text);
    return log;
}

static void write_line(struct audit_log *log, int number) {
    char *line = mem_printf("line %06d\n", number); /* 12 bytes */
    audit_log_write(log, line, strlen(line));
}

/* The lines of a file, in order; fails when one is not whole. Gives the number of lines. */
static int read_lines(int file_number, int *first) {
    char file[128], line[64];
    snprintf(file, sizeof(file), file_number ? "%s.%d" : "%s", path, file_number);
    FILE *f = fopen(file, "r");
    if (!f)
        return -1;
    int num = 0, number;
    while (fgets(line, sizeof(line), f)) {
        assert_int_equal(sscanf(line, "line %d", &number), 1);
        assert_int_equal(strlen(line), 12);
        if (!num)
            *first = number;
        assert_int_equal(number, *first + num);
        num++;
    }
    fclose(f);
    return num;
}

static double counted(const char *what) {
    AUTO_BUF text = BUF_INIT;
    metrics_write(metrics, &text);
    AUTO_FREE char *prefix = mem_printf("\n%s ", what);
    const char *at = strstr(text.data, prefix);
    assert_non_null(at);
    return strtod(at + strlen(prefix), NULL);
}

static void lines_are_written_in_order_by_the_time_of_close(void **state) {
    struct audit_log *log = open_log(path, 1 << 20, 3, 0);
    for (int i = 0; i < 1000; i++)
        write_line(log, i);
    audit_log_close(log);
    int first = -1;
    assert_int_equal(read_lines(0, &first), 1000);
    assert_int_equal(first, 0);
    assert_int_equal(counted("apiserver_audit_event_total"), 1000);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    log = open_log(path, 1 << 20, 3, 0); /* goes on where it was */
    write_line(log, 1000);
    audit_log_close(log);
    assert_int_equal(read_lines(0, &first), 1001);
}

static void files_move_at_their_bound_and_the_oldest_goes(void **state) {
    struct audit_log *log = open_log(path, 1200, 3, 0); /* 100 lines a file */
    for (int i = 0; i < 1000; i++)
        write_line(log, i);
    audit_log_close(log);
    int first = -1;
    assert_int_equal(read_lines(0, &first), 100);
    assert_int_equal(first, 900);
    assert_int_equal(read_lines(1, &first), 100);
    assert_int_equal(first, 800);
    assert_int_equal(read_lines(3, &first), 100);
    assert_int_equal(first, 600);
    assert_int_equal(read_lines(4, &first), -1);
}

static void a_line_longer_than_a_file_is_written_alone(void **state) {
    struct audit_log *log = open_log(path, 4096, 3, 0);
    write_line(log, 0);
    AUTO_BUF line = BUF_INIT;
    for (int i = 0; i < 10000; i++)
        buf_putc(&line, 'x');
    buf_putc(&line, '\n');
    size_t len = line.len;
    audit_log_write(log, buf_steal(&line), len);
    write_line(log, 1);
    audit_log_close(log);
    int first = -1;
    struct stat st;
    assert_int_equal(read_lines(0, &first), 1);
    assert_int_equal(first, 1);
    AUTO_FREE char *before = mem_printf("%s.1", path);
    assert_int_equal(stat(before, &st), 0);
    assert_int_equal(st.st_size, 10001);
}

static void old_files_go_for_their_age(void **state) {
    struct audit_log *log = open_log(path, 1200, 9, 0);
    for (int i = 0; i < 350; i++)
        write_line(log, i);
    audit_log_close(log);
    struct timespec long_ago[2] = {{.tv_sec = time(NULL) - 10 * 86400},
                                   {.tv_sec = time(NULL) - 10 * 86400}};
    for (int i = 2; i <= 3; i++) {
        AUTO_FREE char *file = mem_printf("%s.%d", path, i);
        assert_int_equal(utimensat(AT_FDCWD, file, long_ago, 0), 0);
    }
    audit_log_close(open_log(path, 1200, 9, 7));
    int first = -1;
    assert_int_equal(read_lines(1, &first), 100);
    assert_int_equal(read_lines(2, &first), -1);
    assert_int_equal(read_lines(3, &first), -1);
}

static void a_full_disk_costs_lines_and_says_so(void **state) {
    struct audit_log *log = open_log("/dev/full", 1 << 20, 3, 0);
    for (int i = 0; i < 10; i++)
        write_line(log, i);
    audit_log_close(log);
    assert_int_equal(counted("apiserver_audit_error_total{reason=\"disk\"}"), 10);
    assert_int_equal(counted("apiserver_audit_event_total"), 0);
}

static void more_bytes_than_may_wait_are_lost_and_counted(void **state) {
    struct audit_log *log = open_log(path, INT64_MAX, 3, 0);
    size_t len = AUDIT_BYTES_WAITING_MAX + 1;
    char *huge = mem_alloc(len);
    audit_log_write(log, huge, len);
    write_line(log, 0);
    audit_log_close(log);
    int first = -1;
    assert_int_equal(read_lines(0, &first), 1);
    assert_int_equal(counted("apiserver_audit_error_total{reason=\"queue\"}"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_written_in_order_by_the_time_of_close, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(files_move_at_their_bound_and_the_oldest_goes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_line_longer_than_a_file_is_written_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(old_files_go_for_their_age, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_costs_lines_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(more_bytes_than_may_wait_are_lost_and_counted, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
