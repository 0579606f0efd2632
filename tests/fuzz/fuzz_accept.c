/* Accept headers: the first byte says what is on offer beside JSON, the rest is the header.
 *
 * Promises: what is chosen was on offer; what is on offer besides does not turn a choice into a
 * refusal. */
#include "kube-compat/accept.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned offered = ACCEPT_JSON | (size ? data[0] & 0x7f : 0);
    AUTO_FREE char *header = mem_strndup(size ? (const char *)data + 1 : "", size ? size - 1 : 0);
    enum accept_form chosen = accept_choose(header, offered);
    ASSERT(!chosen || ((unsigned)chosen & offered) == (unsigned)chosen);
    ASSERT(!((unsigned)chosen & ((unsigned)chosen - 1)));
    if (chosen)
        ASSERT(accept_choose(header, 0x7f));
    return 0;
}
