/* Charges. The write that they belong to goes last, because the store gives the last one's object.
 */
#include "core/charges.h"

void charges_deinit(struct charges *c) {
    for (size_t i = 0; i < c->num; i++) {
        store_object_unref(c->was[i]);
        json_decref(c->now[i]);
    }
    c->num = 0;
}

enum errc charges_add(struct charges *c, struct store_object *was, json_t *now, struct error *err) {
    if (c->num == CHARGES_MAX) {
        json_decref(now);
        return err_set(err, ERR_EXHAUSTED, "more than %d quotas or budgets apply", CHARGES_MAX);
    }
    c->was[c->num] = store_object_ref(was);
    c->now[c->num++] = now;
    return OK;
}

enum errc charges_commit(struct charges *c, struct store *st, const struct store_write *write,
                         struct store_object **ret_o, struct error *err) {
    struct store_write writes[CHARGES_MAX + 1];
    for (size_t i = 0; i < c->num; i++)
        writes[i] = (struct store_write){.key = c->was[i]->key,
                                         .object = json_incref(c->now[i]),
                                         .expect_revision = c->was[i]->revision};
    writes[c->num] = *write;
    enum errc code = store_commit(st, writes, c->num + 1, ret_o, err);
    /* What is gone may be the quota, not the caller's object: judging anew tells. */
    if (code == ERR_NOT_FOUND && c->num)
        code = err_set(err, ERR_CONFLICT, "one of %zu objects is gone", c->num + 1);
    charges_deinit(c);
    return code;
}
