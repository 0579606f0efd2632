/* One user's CustomResourceDefinition: checked, and read into the kinds that it defines.
 *
 * Immutable once read; shared by reference between the snapshots of kinds.h. */
#ifndef KUBE_COMPAT_CRD_H
#define KUBE_COMPAT_CRD_H

#include "kube-compat/kinds.h"

enum { CRD_VERSIONS_MAX = 16, CRD_COLUMNS_MAX = 64, CRD_FIELDS_MAX = 8, CRD_PATH_BYTES_MAX = 200 };

struct crd;

/* Fills in what a definition may leave out: names, conversion. */
void crd_default(json_t *definition);

/* Checks a definition (old: what it replaces, or NULL), appending causes. */
void crd_check(const json_t *definition, const json_t *old, json_t *causes);

/* Gives what the definition's served versions are. ERR_INVALID: causes say why. */
MUST_CHECK enum errc crd_read(const json_t *definition, const struct schema_types *types,
                              json_t *causes, json_t *warnings, struct crd **ret_crd,
                              struct error *err);
struct crd *crd_ref(struct crd *crd);
void crd_unref(struct crd *crd);
DEFINE_AUTO(crd, crd_unref)

size_t crd_num_kinds(const struct crd *crd);
const struct kind *crd_kind(const struct crd *crd, size_t index); /* preferred version first */
bool crd_deleting(const struct crd *crd);
/* Rank of a version's name among those of its group; the greater is preferred. */
int64_t crd_version_rank(const char *version);
/* Was it read from this state of this definition? */
bool crd_is_of(const struct crd *crd, const json_t *definition);

#endif
