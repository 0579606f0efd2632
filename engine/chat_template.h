/* Chat templates: an interpreter for the part of Jinja that real models' templates use, set up as
 * Hugging Face Transformers does (trim_blocks, lstrip_blocks, loop controls, raise_exception,
 * strftime_now, tojson without ASCII escapes). Compiled once, rendered by many threads. */
#ifndef ENGINE_CHAT_TEMPLATE_H
#define ENGINE_CHAT_TEMPLATE_H

#include <jansson.h>

#include "core/base/buf.h"

struct chat_template;

/* Gives a template, freed by chat_template_destroy(). ERR_INVALID, "chat template: line N: ...",
 * when the source does not parse or uses what is not known here; ERR_TOO_LARGE above 1 MiB. */
MUST_CHECK enum errc chat_template_create(const char *source, struct chat_template **ret_t,
                                          struct error *err);
void chat_template_destroy(struct chat_template *t);
DEFINE_AUTO(chat_template, chat_template_destroy)

/* Renders with `vars` (messages, tools, add_generation_prompt, bos_token, eos_token, and what the
 * request's chat_template_kwargs bring) as top-level names; appends to out, which is left as it was
 * on an error. wall_ms, read as local time, feeds strftime_now. ERR_INVALID, with the line, carries
 * what the template said through raise_exception; ERR_EXHAUSTED when it runs longer, nests deeper
 * or writes more than its bounds allow (jinja_run.h). It needs up to 512 KiB of stack. */
MUST_CHECK enum errc chat_template_render(const struct chat_template *t, const json_t *vars,
                                          int64_t wall_ms, struct buf *out, struct error *err);

#endif
