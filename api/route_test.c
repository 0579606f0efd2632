/* Routing is pure: tables and requests, no sockets. */
#include "api/route.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/buf.h"

struct world {
    struct traffic_table *table;
    struct arena *arena;
};

static struct traffic_revision *add_service(struct traffic_table *t, const char *ns,
                                            const char *name, const char *model, bool ready) {
    struct traffic_service *s = &t->services[t->num_services++];
    s->ns = ns;
    s->name = name;
    const char **hosts = arena_alloc(t->arena, 3 * sizeof(*hosts));
    hosts[0] = arena_printf(t->arena, "%s.%s.example.com", name, ns);
    hosts[1] = arena_printf(t->arena, "%s-predictor.%s.example.com", name, ns);
    s->hosts = hosts;
    const char **models = arena_alloc(t->arena, 2 * sizeof(*models));
    models[0] = model;
    s->models = models;
    s->revisions = arena_alloc(t->arena, sizeof(*s->revisions));
    s->num_revisions = 1;
    s->revisions->name = "r1";
    s->revisions->percent = 100;
    s->revisions->replicas = arena_alloc(t->arena, sizeof(*s->revisions->replicas));
    if (ready)
        s->revisions->replicas[s->revisions->num_replicas++] = traffic_replica_create("p", "/p");
    return s->revisions;
}

static void add_tag(struct traffic_table *t, struct traffic_service *s, const char *name,
                    const char *revision) {
    struct traffic_tag *tag = &((struct traffic_tag *)(uintptr_t)s->tags)[s->num_tags++];
    const char **hosts = arena_alloc(t->arena, 2 * sizeof(*hosts));
    hosts[0] = arena_printf(t->arena, "%s-%s.%s.example.com", name, s->name, s->ns);
    *tag = (struct traffic_tag){.name = name, .revision = revision, .hosts = hosts};
}

static int make_world(void **state) {
    struct world *w = mem_alloc(sizeof(*w));
    w->arena = arena_create();
    w->table = traffic_table_create();
    w->table->services = arena_alloc(w->table->arena, 8 * sizeof(*w->table->services));
    add_service(w->table, "a", "demo", "demo", false);
    add_service(w->table, "b", "demo", "demo", true);
    add_service(w->table, "b", "latest-demo", "demo", false);
    add_service(w->table, "b", "llama", "meta/llama", true);
    add_service(w->table, "b", "llama2", "meta/llama-2", true);
    for (uint32_t i = 0; i < 3; i++) {
        struct traffic_service *s = &w->table->services[i];
        s->tags = arena_alloc(w->table->arena, 2 * sizeof(*s->tags));
        add_tag(w->table, s, "latest", "r2");
        add_tag(w->table, s, "my-canary", "r3");
    }
    *state = w;
    return 0;
}

static int free_world(void **state) {
    struct world *w = *state;
    traffic_table_unref(w->table);
    arena_destroy(w->arena);
    free(w);
    return 0;
}

/* Routes; gives "ns/name target", or the error's name. */
static const char *route(struct world *w, const char *host, const char *path, const char *query,
                         const char *body) {
    struct route_request rq = {.host = host,
                               .raw_path = path,
                               .path = path,
                               .raw_query = query,
                               .body = body,
                               .body_len = strlen(body)};
    struct route r;
    struct error err = ERROR_INIT;
    enum errc rc = route_find(w->table, &rq, w->arena, &r, &err);
    if (rc)
        return arena_printf(w->arena, "%s: %s", errc_name(rc), err.text);
    return arena_printf(w->arena, "%s/%s%s%s %s", r.service->ns, r.service->name, r.tag ? "#" : "",
                        r.tag ? r.tag->revision : "", r.target);
}

static void hosts_win_over_everything(void **state) {
    struct world *w = *state;
    assert_string_equal(route(w, "demo.a.example.com", "/metrics", "", ""), "a/demo /metrics");
    assert_string_equal(route(w, "DEMO-predictor.b.Example.com:8080", "/v1/models", "x=1", ""),
                        "b/demo /v1/models?x=1");
    assert_string_equal(route(w, "demo.b.example.com.", "/", "", ""), "b/demo /");
    assert_string_equal(route(w, "demo.a.example.com", "/serving/b/llama/x", "", ""),
                        "a/demo /serving/b/llama/x");
}

static void serving_prefix_is_stripped(void **state) {
    struct world *w = *state;
    assert_string_equal(route(w, "h", "/serving/b/llama/v1/models", "q=1", ""),
                        "b/llama /v1/models?q=1");
    assert_string_equal(route(w, "h", "/serving/b/llama", "", ""), "b/llama /");
    assert_string_equal(route(w, "h", "/serving/b/llama/", "", ""), "b/llama /");
    assert_string_equal(route(w, "h", "/serving/b/none/v1", "", ""),
                        "NOT_FOUND: there is no InferenceService none in namespace b");
    assert_string_equal(route(w, "h", "/serving/", "", ""),
                        "NOT_FOUND: there is no InferenceService \"\" in namespace \"\"");
}

static void model_of_the_body_routes(void **state) {
    struct world *w = *state;
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                        "/openai/v1/chat/completions"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        AUTO_FREE char *want = mem_printf("b/llama %s", paths[i]);
        assert_string_equal(route(w, NULL, paths[i], "", "{\"model\":\"meta/llama\"}"), want);
    }
    /* Three services serve `demo`; the ready one answers. */
    assert_string_equal(route(w, "h", "/v1/completions", "", "{\"model\":\"demo\"}"),
                        "b/demo /v1/completions");
    assert_string_equal(route(w, "h", "/v1/completions", "", "{\"model\":\"nope\"}"),
                        "NOT_FOUND: The model `nope` does not exist. Known models: `demo`, "
                        "`demo`, `demo`, `meta/llama`, `meta/llama-2`");
    assert_string_equal(route(w, "h", "/nothing", "", ""), "NOT_FOUND: nothing is served at "
                                                           "/nothing");
}

static void model_of_the_path_routes(void **state) {
    struct world *w = *state;
    assert_string_equal(route(w, "h", "/v2/models/demo/infer", "", ""),
                        "b/demo /v2/models/demo/infer");
    assert_string_equal(route(w, "h", "/v1/models/demo:predict", "", ""),
                        "b/demo /v1/models/demo:predict");
    assert_string_equal(route(w, "h", "/v2/models/meta/llama-2/ready", "", ""),
                        "b/llama2 /v2/models/meta/llama-2/ready");
    assert_string_equal(route(w, "h", "/v2/models/meta/llama/ready", "", ""),
                        "b/llama /v2/models/meta/llama/ready");
    assert_non_null(strstr(route(w, "h", "/v2/models/dem/infer", "", ""), "`dem` does not exist"));
}

static const char *model_of(struct world *w, const char *body) {
    const char *model = NULL;
    struct error err = ERROR_INIT;
    enum errc rc = route_body_model(body, strlen(body), w->arena, &model, &err);
    return rc ? errc_name(rc) : model;
}

static void body_scanner_finds_the_top_level_model_only(void **state) {
    struct world *w = *state;
    static const struct {
        const char *body, *want;
    } cases[] = {
        {"{\"model\":\"m\"}", "m"},
        {" \n{ \"a\" : 1 , \"model\" : \"m\" } ", "m"},
        {"{\"x\":{\"model\":\"inner\"},\"model\":\"outer\"}", "outer"},
        {"{\"model\":\"first\",\"y\":[{\"model\":\"inner\"}]}", "first"},
        {"{\"s\":\"\\\"model\\\":\\\"no\\\" } {\",\"model\":\"yes\"}", "yes"},
        {"{\"model\":\"a\\u0062\\n\"}", "ab\n"},
        {"{\"a\":-1.5e3,\"b\":true,\"c\":null,\"model\":\"m\"}", "m"},
        {"{\"model\":\"one\",\"model\":\"two\"}", "two"},
        {"{\"messages\":[]}", "INVALID"},
        {"{\"model\":3}", "INVALID"},
        {"{\"model\":null}", "INVALID"},
        {"{}", "INVALID"},
        {"", "MALFORMED"},
        {"[]", "MALFORMED"},
        {"{\"model\":\"m\"", "MALFORMED"},
        {"{\"model\":\"m", "MALFORMED"},
        {"{\"model\"", "MALFORMED"},
        {"{\"a\":[1,2,\"model\":\"m\"}", "MALFORMED"},
        {"{model:\"m\"}", "MALFORMED"},
        {"{\"a\":,\"model\":\"m\"}", "MALFORMED"},
        {"{\"a\\", "MALFORMED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = model_of(w, cases[i].body);
        if (strcmp(got, cases[i].want))
            fail_msg("%s: %s, not %s", cases[i].body, got, cases[i].want);
    }
}

static void deep_and_long_bodies_cost_nothing(void **state) {
    struct world *w = *state;
    AUTO_BUF b = BUF_INIT;
    buf_puts(&b, "{\"x\":");
    for (int i = 0; i < 20000; i++)
        buf_putc(&b, '[');
    for (int i = 0; i < 20000; i++)
        buf_putc(&b, ']');
    buf_puts(&b, ",\"model\":\"m\"}");
    assert_string_equal(model_of(w, b.data), "m");
    b.data[b.len / 2] = ' '; /* one bracket short */
    assert_string_equal(model_of(w, b.data), "MALFORMED");
}

static void a_tag_before_the_name_asks_for_one_revision(void **state) {
    struct world *w = *state;
    assert_string_equal(route(w, "latest-demo.a.example.com:8080", "/v1/models", "", ""),
                        "a/demo#r2 /v1/models");
    assert_string_equal(route(w, "MY-CANARY-demo.a.example.com.", "/v1/models", "", ""),
                        "a/demo#r3 /v1/models");
    assert_string_equal(route(w, NULL, "/serving/a/latest-demo/v1/models", "x=1", ""),
                        "a/demo#r2 /v1/models?x=1");
    assert_string_equal(route(w, NULL, "/serving/a/my-canary-demo/v1/models", "", ""),
                        "a/demo#r3 /v1/models");
    /* A service that is called so comes before a tag that reads alike. */
    assert_string_equal(route(w, "latest-demo.b.example.com", "/v1/models", "", ""),
                        "b/latest-demo /v1/models");
    assert_string_equal(route(w, NULL, "/serving/b/latest-demo/v1/models", "", ""),
                        "b/latest-demo /v1/models");
    assert_string_equal(route(w, NULL, "/serving/b/my-canary-latest-demo/x", "", ""),
                        "b/latest-demo#r3 /x");
    assert_non_null(strstr(route(w, NULL, "/serving/a/canary-demo/x", "", ""),
                           "there is no InferenceService canary-demo"));
    assert_non_null(strstr(route(w, NULL, "/serving/a/latest-/x", "", ""), "no InferenceService"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_tag_before_the_name_asks_for_one_revision, make_world,
                                        free_world),
        cmocka_unit_test_setup_teardown(hosts_win_over_everything, make_world, free_world),
        cmocka_unit_test_setup_teardown(serving_prefix_is_stripped, make_world, free_world),
        cmocka_unit_test_setup_teardown(model_of_the_body_routes, make_world, free_world),
        cmocka_unit_test_setup_teardown(model_of_the_path_routes, make_world, free_world),
        cmocka_unit_test_setup_teardown(body_scanner_finds_the_top_level_model_only, make_world,
                                        free_world),
        cmocka_unit_test_setup_teardown(deep_and_long_bodies_cost_nothing, make_world, free_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
