/* The table of kinds: everything served is a row here, read from CustomResourceDefinition
 * documents.
 *
 * A document is an ordinary CRD with these additions for the kinds that Kubernetes has built in:
 *   schema.openAPIV3Schema.$ref      names a type of the type tables instead of spelling it out
 *   additionalPrinterColumns[].x-cell   a cell that only code can compute (table_cells.c)
 *   additionalPrinterColumns[].x-empty  what an absent value prints as
 *   spec.x-inferd.builtIn            strategic merge, kind may be left out, unconditional PUT
 *   spec.x-inferd.deleteCollection   false: its objects are deleted one by one only
 *   spec.x-inferd.generation         false: metadata.generation is not kept
 *   spec.x-inferd.nameRule           subdomain (default), label, any
 *   spec.x-inferd.nameColumn         false: the Name column is among the printer columns
 *   spec.x-inferd.subresources       further entries for discovery
 *   spec.x-inferd.view               another spelling of the objects of another kind: events of the
 *                                    core group's (events_view.c), autoscaling of version v2's
 *                                    (autoscaler_view.c)
 *   spec.x-inferd.notRun             clients look for this kind and inferd has none: lists are
 * empty, writes are refused with this advice
 *   spec.x-inferd.measured           nothing of this kind is stored: objects are made when somebody
 *                                    gets or lists them (resource_metrics.c); no other verbs
 *
 * A kind is one version of one resource. A table is an immutable snapshot, shared by reference:
 * the embedded kinds, and behind them those of users' definitions (crd.h). Whoever keeps a kind
 * beyond a request keeps a reference to its table. */
#ifndef KUBE_COMPAT_KINDS_H
#define KUBE_COMPAT_KINDS_H

#include "kube-compat/schema.h"

struct crd;

enum kind_view { KIND_VIEW_NONE, KIND_VIEW_EVENTS, KIND_VIEW_AUTOSCALING };
enum kind_name_rule { KIND_NAME_SUBDOMAIN, KIND_NAME_LABEL, KIND_NAME_ANY };

struct kind_column {
    const char *name, *type, *format, *description;
    const char *json_path; /* or */
    const char *cell;
    const char *empty; /* NULL: an absent value is null */
    int priority;
};

struct kind_subresource {
    const char *name, *group, *version, *kind;
    const char **verbs; /* NULL-terminated */
};

struct kind_field {   /* a field that field selectors may name */
    const char *path; /* "spec.nodeName" */
    const char *cell; /* computed by code; NULL: read from path */
};

struct kind {
    const char *group; /* "" is the core group */
    const char *version;
    const char *api_version; /* "v1", "apps/v1" */
    const char *kind, *list_kind, *plural, *singular;
    const char *qualified;                  /* "deployments.apps": how messages name the resource */
    const char **short_names, **categories; /* NULL-terminated */
    bool namespaced, built_in, generation, has_status, has_scale, name_column, measured;
    bool keeps_collection; /* deletecollection is refused */
    bool create_only;      /* a review, as OpenAPI shows it; in no table */
    enum kind_name_rule name_rule;
    enum kind_view view;
    const char *not_run; /* what to use instead; NULL: the kind is one that inferd has */
    const char *scale_spec_path, *scale_status_path, *scale_selector_path; /* "spec.replicas" */
    const char *store_group;    /* first part of the store's key */
    const struct kind *storage; /* the kind whose form is stored: this one, or the viewed one */
    const char *stored_version; /* apiVersion of what is stored; NULL: this kind's */
    const char *warning;        /* sent with every answer (a deprecated version); NULL: none */
    const struct crd *crd;      /* the user's definition; NULL: the kind is embedded */
    const struct schema *schema;
    struct kind_column *columns;
    uint32_t num_columns;
    struct kind_field *fields;
    uint32_t num_fields;
    struct kind_subresource *subresources;
    uint32_t num_subresources;
};

/* The resource customresourcedefinitions itself? */
bool kind_is_crd(const struct kind *kind);

/* Reads names, columns, fields and subresources of one version of a definition into *ret_kind;
 * what it points to is in the arena. The schema is left to the caller. err names `document`. */
MUST_CHECK enum errc kind_read(struct arena *arena, const char *document, const json_t *spec,
                               const json_t *version, struct kind *ret_kind, struct error *err);

struct kinds;

/* Reads the embedded documents. ERR_INVALID names the document and field: a bug in our own data. */
MUST_CHECK enum errc kinds_create(struct kinds **ret_k, struct error *err);
/* Gives a snapshot with the kinds of crds (a reference each) behind those of `embedded`. */
struct kinds *kinds_extend(struct kinds *embedded, struct crd *const *crds, size_t num_crds);
struct kinds *kinds_ref(struct kinds *k);
void kinds_unref(struct kinds *k);
DEFINE_AUTO(kinds, kinds_unref)

size_t kinds_count(const struct kinds *k);
const struct kind *kinds_at(const struct kinds *k, size_t index); /* in discovery order */
const struct kind *kinds_find(const struct kinds *k, const char *group, const char *version,
                              const char *plural); /* NULL: not served */
/* Any kind of this group with that plural or kind (either may be NULL). */
const struct kind *kinds_named(const struct kinds *k, const char *group, const char *plural,
                               const char *kind);
const struct schema_types *kinds_types(const struct kinds *k);

#endif
