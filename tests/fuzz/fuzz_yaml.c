/* YAML bodies.
 *
 * Promises: what parses is JSON that comes back from its text, and what is written of it as YAML
 * parses to the same. */
#include "core/base/yaml.h"

#include <stdio.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct error err = ERROR_INIT;
    json_t *docs = NULL;
    AUTO_FREE char *text = mem_strndup(size ? (const char *)data : "", size);
    if (yaml_parse_all(text, size, &docs, &err)) {
        ASSERT(err.code && err.text[0] && !docs);
        return 0;
    }
    ASSERT(json_is_array(docs));
    size_t i;
    json_t *doc;
    json_array_foreach (docs, i, doc) {
        fuzz_expect_text(doc);
        AUTO_BUF written = BUF_INIT;
        yaml_emit(doc, &written);
        json_t *again = NULL;
        if (yaml_parse(written.data ? written.data : "", written.len, &again, &err)) {
            fprintf(stderr, "written YAML does not parse: %s\n%s\n", err.text, written.data);
            abort();
        }
        fuzz_expect_same(again, doc, "what is written as YAML reads as the same");
        json_decref(again);
    }
    json_decref(docs);
    return 0;
}
