/* OpenAI's JSON: errors, escaping, and reading fields with errors that name the parameter. Shared
 * by the engine's endpoints and by the gateway. */
#ifndef API_OPENAI_JSON_H
#define API_OPENAI_JSON_H

#include <jansson.h>

#include "core/http.h"

enum { OPENAI_RETRY_AFTER_SECONDS = 1 };

/* HTTP status of an error code, the same in all inference dialects. */
int openai_status(enum errc code);

/* Appends {"error":{"message","type","param","code","request_id"}}. */
void openai_error_body(const struct error *err, const char *request_id, struct buf *out);

/* Answers the exchange with err: status, body, and Retry-After where waiting helps (429, 503). */
void openai_reply_error(struct http_exchange *x, const struct error *err);

/* http_error_body_fn of servers that speak OpenAI's dialect. */
void openai_http_error_body(int status, const struct error *err, const char *request_id,
                            struct buf *out);

/* Appends text as the inside of a JSON string (without quotes). Bytes must be valid UTF-8. */
void openai_escape(struct buf *out, const char *text, size_t len);
void openai_quote(struct buf *out, const char *text); /* with quotes */

/* Gives the parsed body. ERR_MALFORMED: not JSON, not UTF-8, nested too deeply, not an object;
 * ERR_MEDIA_TYPE: a Content-Type that is not JSON. */
MUST_CHECK enum errc openai_parse_body(struct http_exchange *x, json_t **ret_body,
                                       struct error *err);

/* Fields. Absent or null: ret is left alone and OK is returned. */
MUST_CHECK enum errc openai_read_float(const json_t *o, const char *name, double min, double max,
                                       float *ret, struct error *err);
MUST_CHECK enum errc openai_read_int(const json_t *o, const char *name, int64_t min, int64_t max,
                                     int64_t *ret, struct error *err);
MUST_CHECK enum errc openai_read_bool(const json_t *o, const char *name, bool *ret,
                                      struct error *err);
MUST_CHECK enum errc openai_read_string(const json_t *o, const char *name, const char **ret,
                                        struct error *err); /* borrowed from o */

#endif
