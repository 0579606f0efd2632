/* The engine's figures under vLLM's names, so that dashboards made for vLLM work. */
#ifndef API_ENGINE_METRICS_H
#define API_ENGINE_METRICS_H

#include "core/base/metrics.h"
#include "engine/engine.h"

struct engine_metrics;

/* model: the label model_name; copied. */
struct engine_metrics *engine_metrics_create(const char *model);
void engine_metrics_destroy(struct engine_metrics *m);
DEFINE_AUTO(engine_metrics, engine_metrics_destroy)

/* Any thread. */
void engine_metrics_first_token(struct engine_metrics *m, int64_t since_arrival_ns);
void engine_metrics_next_token(struct engine_metrics *m, int64_t since_last_ns);
void engine_metrics_finished(struct engine_metrics *m, enum finish_reason reason,
                             uint32_t num_prompt_tokens, uint32_t num_tokens,
                             int64_t since_arrival_ns);
/* Appends the text, with the engine's own figures as they are now. */
void engine_metrics_write(struct engine_metrics *m, const struct engine *e, struct buf *out);

#endif
