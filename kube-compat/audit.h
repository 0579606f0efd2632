/* Audit: one record per request, written as audit.k8s.io/v1 Events, one JSON object a line. */
#ifndef KUBE_COMPAT_AUDIT_H
#define KUBE_COMPAT_AUDIT_H

#include "core/base/metrics.h"
#include "kube-compat/audit_policy.h"
#include "kube-compat/request.h"

struct audit;
struct audit_record; /* of one request; NULL where nothing is written down, and fine everywhere */

enum { AUDIT_BODY_BYTES_MAX = 256 << 10 }; /* a larger request body is left out, and said so */

struct audit_options {
    const char *policy_path; /* YAML or JSON */
    const char *log_path;    /* and the rest: see audit_log.h */
    int64_t file_bytes_max, files_max, days_max;
    struct metrics *metrics; /* borrowed for the audit's life */
};
/* ERR_INVALID names the policy's file and field; ERR_IO. */
MUST_CHECK enum errc audit_open(const struct audit_options *opt, struct audit **ret_a,
                                struct error *err);
void audit_close(struct audit *a); /* NULL is fine; what waits is written first */
DEFINE_AUTO(audit, audit_close)

/* Begins the record of a request whose URL has been read and who->who is the client itself; sets
 * the header Audit-ID and writes the stage RequestReceived. NULL: not to be written (a may be
 * NULL). */
struct audit_record *audit_begin(struct audit *a, struct request *rq);

void audit_impersonated(struct audit_record *r, const struct auth_identity *who);
void audit_decided(struct audit_record *r, bool allowed, const char *reason);
/* The body as it was read (borrowed for the call): completes objectRef and, at level Request,
 * stands in the event. Never called for bodies that hold secrets. */
void audit_body(struct audit_record *r, const json_t *body);
/* The object that the client gets: names what was created without a name of its own. */
void audit_result(struct audit_record *r, const json_t *object);
/* The Status that the client gets (borrowed for the call). */
void audit_failed(struct audit_record *r, const json_t *status);

/* The answer's head is settled: a stream has started, or all is done. */
void audit_answered(struct audit_record *r, int status, bool streaming);
void audit_end(struct audit_record *r); /* takes r; writes ResponseComplete of a stream */

/* A client that could not be authenticated (a may be NULL). */
void audit_refused(struct audit *a, struct request *rq);

#endif
