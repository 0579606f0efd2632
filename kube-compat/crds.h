/* The users' CustomResourceDefinitions: from the store's objects to the table of kinds in force.
 *
 * Readers take a snapshot (kinds.h) and keep it while they need its kinds. After a change the set
 * is reconciled with the store: names are accepted or not, status is written, objects of a
 * definition that goes are deleted, and a new snapshot replaces the old. Any thread may call. */
#ifndef KUBE_COMPAT_CRDS_H
#define KUBE_COMPAT_CRDS_H

#include "core/store.h"
#include "kube-compat/kinds.h"

enum { CRDS_MAX = 512 }; /* ERR_EXHAUSTED beyond */

#define CRD_FINALIZER "customresourcecleanup.apiextensions.k8s.io"

struct crds;

/* Serves the definitions in the store. Borrows the store. */
MUST_CHECK enum errc crds_create(struct store *store, struct crds **ret_c, struct error *err);
void crds_destroy(struct crds *c);
DEFINE_AUTO(crds, crds_destroy)

/* Gives a reference to the table in force. */
struct kinds *crds_kinds(struct crds *c);

/* Checks a defaulted definition before it is stored; old: what it replaces, or NULL. ERR_INVALID
 * with causes; ERR_EXHAUSTED. Warnings name what is accepted without effect. */
MUST_CHECK enum errc crds_admit(struct crds *c, const json_t *definition, const json_t *old,
                                json_t *causes, json_t *warnings, struct error *err);

/* After a definition, or an object of one that is going, was written: returns when the table
 * follows the store. May wait for store commits. */
void crds_changed(struct crds *c);

/* The same, where a definition is going: the garbage collector may have taken its last object. */
void crds_tick(struct crds *c);

#endif
