#include "kube-compat/shown.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "core/store_memory.h"
#include "kube-compat/events_view.h"

/* Gives an object of the store with one reference; fields in an order that is not sorted. */
static struct store_object *object(const char *managed) {
    json_t *json = json_loads(
        "{\"metadata\":{\"name\":\"a\",\"labels\":{\"app\":\"x\"},\"resourceVersion\":\"7\"},"
        "\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\":{\"quote\\\"d\":\"line\\nline "
        "\\u0001 \\\"metadata\\\":{ é\"},\"template\":{\"metadata\":{\"managedFields\":\"kept\"}},"
        "\"empty\":{},\"numbers\":[1,2.5,null,true]}",
        0, NULL);
    assert_non_null(json);
    if (managed)
        json_object_set_new(json_object_get(json, "metadata"), "managedFields",
                            json_string(managed));
    return store_object_create("core/configmaps/default/a", 7, 7, json);
}

static void text_is_what_kind_show_gives(void **state) {
    static const char *const managed[] = {
        NULL, "[]",
        "[{\"manager\":\"kubectl\",\"fieldsV1\":{\"f:data\":{\"k:{\\\"a\\\":1}\":{}}}}]"};
    const struct kind kind = {.kind = "ConfigMap", .api_version = "v1"};
    assert_true(shown_is_stored(&kind));
    for (size_t i = 0; i < ARRAY_LEN(managed); i++) {
        AUTO(store_object) o = object(managed[i]);
        const struct store_text *text = shown_text(o);
        json_t *read = json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, NULL);
        json_t *shown = kind_show(&kind, o->json);
        assert_true(json_equal(read, shown));
        json_decref(read);
        json_decref(shown);
        assert_ptr_equal(shown_text(o), text);
    }
}

static void other_forms_are_not_stored(void **state) {
    const struct kind events = {.view = KIND_VIEW_EVENTS};
    const struct kind older = {.stored_version = "example.com/v2"};
    assert_false(shown_is_stored(&events));
    assert_false(shown_is_stored(&older));
}

static void *print(void *user) {
    return (void *)(uintptr_t)shown_text(user);
}

static void threads_share_one_text(void **state) {
    AUTO(store_object) o = object("[{\"manager\":\"m\"}]");
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, print, o), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *text;
        pthread_join(threads[i], &text);
        assert_ptr_equal(text, shown_text(o));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_what_kind_show_gives),
        cmocka_unit_test(other_forms_are_not_stored),
        cmocka_unit_test(threads_share_one_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
