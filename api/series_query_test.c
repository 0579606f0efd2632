/* Prometheus' HTTP API on a real HTTP server: parameters in URL and form, answers, errors. */
#include "api/series_query.h"

#include <stdio.h>
#include <unistd.h>

#include "core/http_client_test.h"

static struct {
    struct series *series;
    struct series_source *source;
    struct http_server *server;
} env;

static void handle(struct http_exchange *x, void *user) {
    if (!series_query_serve(env.series, x))
        http_reply_text(x, 404, "another's");
}

static int set_up(void **state) {
    static const struct label a[] = {{LABEL_NAME, "m"}, {"pod", "a"}};
    const struct http_server_options opt = {.listen = "127.0.0.1:0", .handler = handle};
    struct error err = ERROR_INIT;
    env.series = series_create(NULL);
    env.source = series_source_open(env.series);
    for (int64_t i = 0; i < 4; i++)
        assert_int_equal(
            series_put(env.source, a, 2, 1700000000000 + i * 5000, 1.5 + (double)i, &err), OK);
    return http_server_start(&opt, &env.server, &err);
}

static int tear_down(void **state) {
    http_server_stop(env.server);
    series_source_close(env.source, 0);
    series_destroy(env.series);
    return 0;
}

/* Status and body. */
static char *ask(const char *method, const char *target, const char *body) {
    int fd = dial(env.server);
    AUTO_FREE char *rq = mem_printf(
        "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n%s",
        method, target, strlen(body), body);
    struct buf in = BUF_INIT;
    assert_true(send_text(fd, rq));
    receive_until(fd, &in, "\r\n\r\n");
    receive_end(fd, &in);
    close(fd);
    assert_non_null(in.data);
    const char *text = strstr(in.data, "\r\n\r\n") + 4;
    size_t len = strcspn(text, "\n"); /* documents end with a line */
    char *answer = mem_printf("%.3s %.*s", in.data + 9, (int)len, text);
    buf_deinit(&in);
    return answer;
}

static void answers_are_prometheus_own(void **state) {
    static const struct {
        const char *method, *target, *body, *expect;
    } rows[] = {
        {"GET", "/api/v1/query?query=m&time=1700000006", "",
         "200 {\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{"
         "\"__name__\":\"m\",\"pod\":\"a\"},\"value\":[1700000006.0,\"2.5\"]}]}}"},
        {"POST", "/api/v1/query", "query=m%7Bpod%3D%22a%22%7D+%2B+1&time=2023-11-14T22:13:26Z",
         "200 {\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{"
         "\"pod\":\"a\"},\"value\":[1700000006.0,\"3.5\"]}]}}"},
        {"POST", "/api/v1/query?time=1.5", "x=&query=1%2B1",
         "200 "
         "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1.5,\"2\"]}}"},
        {"GET", "/api/v1/query?query=m[7s]&time=1700000006", "",
         "200 {\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{"
         "\"__name__\":\"m\",\"pod\":\"a\"},\"values\":[[1700000000.0,\"1.5\"],[1700000005.0,"
         "\"2.5\"]]}]}}"},
        {"GET", "/api/v1/query_range?query=m*2&start=1700000000&end=1700000010&step=5", "",
         "200 {\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{"
         "\"pod\":\"a\"},\"values\":[[1700000000.0,\"3\"],[1700000005.0,\"5\"],[1700000010.0,\"7\"]"
         "]}]}}"},
        {"GET", "/api/v1/query_range?query=2&start=10&end=25&step=15s", "",
         "200 "
         "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{}"
         ",\"values\":[[10.0,\"2\"],[25.0,\"2\"]]}]}}"},
        {"GET", "/api/v1/query?query=sum(", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter "
         "\\\"query\\\": position 5: the expression ends where an expression is expected\"}"},
        {"GET", "/api/v1/query", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter "
         "\\\"query\\\": position 1: the expression ends where an expression is expected\"}"},
        {"GET", "/api/v1/query?query=m&time=soon", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter "
         "\\\"time\\\": \\\"soon\\\" is neither seconds since 1970 nor a time by RFC 3339\"}"},
        {"GET", "/api/v1/query_range?query=m&start=1&end=2", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter "
         "\\\"step\\\": \\\"\\\" is not a positive duration\"}"},
        {"GET", "/api/v1/query_range?query=m&start=1&end=1001&step=1", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"more than 1000 steps: "
         "take a longer step or less time\"}"},
        {"GET", "/api/v1/query_range?query=m[5m]&start=1&end=2&step=1", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"a range vector has no "
         "value at an instant\"}"},
        {"GET", "/api/v1/query_range?query=m&start=2&end=1&step=1", "",
         "400 {\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"the step has to be "
         "above 0 "
         "and the end not before the start\"}"},
        {"GET", "/api/v1/other", "", "404 another's"},
        {"DELETE", "/api/v1/query?query=m", "", "404 another's"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *has = ask(rows[i].method, rows[i].target, rows[i].body);
        assert_string_equal(has, rows[i].expect);
    }
}

static void what_cannot_be_evaluated_is_422(void **state) {
    static const struct label b[] = {{LABEL_NAME, "n"}, {"pod", "a"}};
    struct error err = ERROR_INIT;
    assert_int_equal(series_put(env.source, b, 2, 1700000000000, 1, &err), OK);
    AUTO_FREE char *has =
        ask("GET", "/api/v1/query?time=1700000001&query=abs(%7B__name__=~%22m%7Cn%22%7D)", "");
    assert_string_equal(has,
                        "422 {\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"vector "
                        "cannot contain metrics with the same labelset: {pod=\\\"a\\\"}\"}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_are_prometheus_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_evaluated_is_422, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
