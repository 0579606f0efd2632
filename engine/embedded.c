/* The table of linked-in models. The build writes embedded_models.inc with a line
 * EMBEDDED("demo-chat", demo_chat) for each; the symbols come from the assembler's .incbin. */
#include "engine/embedded.h"

#include "core/base/buf.h"

#define EMBEDDED(name, symbol) extern const uint8_t symbol##_start[], symbol##_end[];
#include "embedded_models.inc"
#undef EMBEDDED

static const struct embedded table[] = {
#define EMBEDDED(name, symbol) {name, symbol##_start, symbol##_end},
#include "embedded_models.inc"
#undef EMBEDDED
    {NULL, NULL, NULL},
};

enum errc embedded_find(const char *name, const struct embedded **ret_model, struct error *err) {
    AUTO_BUF names = BUF_INIT;
    for (const struct embedded *e = table; e->name; e++) {
        if (!strcmp(e->name, name)) {
            *ret_model = e;
            return OK;
        }
        buf_printf(&names, "%s%s", names.len ? ", " : "", e->name);
    }
    return err_set(err, ERR_NOT_FOUND,
                   EMBEDDED_SCHEME "%.100s: this program holds no such model; "
                                   "it holds: %s",
                   name, names.len ? names.data : "none");
}
