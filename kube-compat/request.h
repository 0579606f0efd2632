/* One API request on its way through the dialect: what the URL and headers say, and what is found
 * while serving it. Lives on the handler's stack; strings are in the exchange's arena. */
#ifndef KUBE_COMPAT_REQUEST_H
#define KUBE_COMPAT_REQUEST_H

#include "kube-compat/accept.h"
#include "kube-compat/crds.h"
#include "kube-compat/kinds.h"
#include "kube-compat/kube.h"

struct audit;
struct audit_record;
struct authz;
struct dispatch;
struct metrics;
struct stream_hub;
struct tunnel_set;
struct openapi;

struct kube {
    struct kube_options opt;
    struct metrics *metrics;
    struct dispatch *dispatch;
    struct audit *audit; /* NULL: off */
    struct crds *crds;
    struct authz *authz;
    struct stream_hub *hub;
    struct tunnel_set *tunnels;
    struct openapi *openapi;
};

enum field_validation { FIELD_VALIDATION_WARN, FIELD_VALIDATION_STRICT, FIELD_VALIDATION_IGNORE };

struct request {
    struct kube *kube;
    struct kinds *kinds; /* the table in force when the request came */
    struct http_exchange *x;
    const struct auth_identity *who; /* NULL: the server runs without authentication */
    struct audit_record *audit;      /* NULL: this request is not written down */
    const char *verb; /* get list watch create update patch delete deletecollection */
    const char *group, *version, *resource; /* as in the URL; resource NULL: not about a resource */
    const char *ns;                         /* NULL: all, or cluster-scoped */
    const char *name, *subresource;         /* NULL: none */
    const struct kind *kind;                /* NULL: not served */
    enum field_validation field_validation;
    bool dry_run;
    const char *field_manager;    /* of the query; NULL: the client did not say */
    const json_t *applied;        /* managedFields that server-side apply settled; NULL: no apply */
    const char *review_kind;      /* of a review, which no table has; NULL: it is none */
    const char *options_kind;     /* "ListOptions": what a refusal is about, when not the object */
    struct store_object *written; /* what the write of this request stored; NULL: nothing yet */
    json_t *causes;               /* Status causes found so far */
    json_t *warnings;             /* strings for Warning headers */
};

/* A parameter of the query; NULL: absent, or empty, which Kubernetes holds to be the same. */
const char *request_given(const struct request *rq, const char *parameter);

/* Answers with the Status that err and rq->causes amount to. */
void request_fail(struct request *rq, const struct error *err);
/* In two steps: gives that Status; answers with it (takes it). */
json_t *request_status(const struct request *rq, const struct error *err);
void request_fail_with(struct request *rq, json_t *status);

/* Answers that no form which the client accepts can be had. */
void request_fail_unacceptable(struct request *rq);

/* Answers with an object (takes it) in the form that the client asked for, and the warnings. */
void request_reply(struct request *rq, int status, json_t *object);

/* Would request_reply() answer plain compact JSON? */
bool request_wants_json(const struct request *rq);
/* Answers with JSON that is text already: see http_reply_parts(). */
void request_reply_parts(struct request *rq, int status, const struct http_part *parts,
                         size_t num_parts, void (*release)(void *user), void *user);

/* The usual refusals, in Kubernetes' words; give the code. */
enum errc request_not_found(const struct request *rq, struct error *err);
enum errc request_conflict(const struct request *rq, struct error *err);
enum errc request_exists(const struct request *rq, const char *name, struct error *err);

#endif
