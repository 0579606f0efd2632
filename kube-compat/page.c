/* Pages and snapshots of lists.
 *
 * A continue token is base64url of {"v": "meta.k8s.io/v1", "rv": N, "start": KEY}: go on behind KEY
 * in the snapshot of revision N, the first page's. The store makes that snapshot anew from its
 * history (core/store_past.c), so a token costs nothing while it is out and lives as long as the
 * history. After that the answer is 410 Expired, with a token that says revision -1: its bearer
 * accepts that the rest comes from the newest state.
 *
 * The rules are Kubernetes': resourceVersionMatch=Exact wants that very snapshot, and so does a
 * limit with a resourceVersion and no match (its older spelling); NotOlderThan, and a
 * resourceVersion alone, are content with anything newer. Refusals are worded as there, and about
 * ListOptions, because clients tell them apart by that. */
#include "kube-compat/page.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/base64.h"
#include "core/object.h"
#include "kube-compat/status.h"

enum { CONTINUE_BYTES_MAX = 4096, REVISION_NEWEST = -1 };

#define TOKEN_VERSION "meta.k8s.io/v1"

static bool parse_integer(const char *text, int64_t *ret) {
    char *end;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return *text && !*end && !errno;
}

enum errc page_query_version(const struct request *rq, int64_t *ret_version, struct error *err) {
    const char *text = request_given(rq, "resourceVersion");
    *ret_version = -1;
    if (!text)
        return OK;
    if (text[0] < '0' || text[0] > '9' || !parse_integer(text, ret_version))
        return err_set(err, ERR_MALFORMED,
                       "invalid resource version: resourceVersion: Invalid value: \"%.64s\": "
                       "strconv.ParseUint: parsing \"%.64s\": invalid syntax",
                       text, text);
    return OK;
}

static enum errc read_limit(const struct request *rq, struct page *page, struct error *err) {
    const char *limit = request_given(rq, "limit");
    if (limit && !parse_integer(limit, &page->limit))
        return err_set(err, ERR_MALFORMED,
                       "limit: Invalid value: \"%.64s\": strconv.ParseInt: parsing \"%.64s\": "
                       "invalid syntax",
                       limit, limit);
    if (page->limit < 0)
        page->limit = 0;
    return OK;
}

static enum errc read_continue(struct request *rq, const char *prefix, struct page *page,
                               struct error *err) {
    const char *token = request_given(rq, "continue");
    if (!token)
        return OK;
    AUTO_BUF text = BUF_INIT;
    json_t *o = NULL;
    if (strlen(token) <= CONTINUE_BYTES_MAX && base64url_decode(&text, token) && text.len)
        o = json_loadb(text.data, text.len, 0, NULL);
    const char *version = object_str(o, "v"), *start = object_str(o, "start");
    int64_t revision = object_int(o, "rv", 0);
    const char *wrong = NULL;
    if (!json_is_object(o))
        wrong = "it does not decode";
    else if (!version || strcmp(version, TOKEN_VERSION) != 0)
        wrong = "server does not recognize this encoded version";
    else if (!revision || revision < REVISION_NEWEST)
        wrong = "incorrect encoded start resourceVersion (version " TOKEN_VERSION ")";
    else if (!start || strncmp(start, prefix, strlen(prefix)) != 0)
        wrong = "it does not point into this list";
    page->after = wrong ? NULL : arena_strdup(http_arena(rq->x), start);
    page->revision = revision == REVISION_NEWEST ? 0 : revision;
    json_decref(o);
    return wrong ? err_set(err, ERR_MALFORMED, "continue key is not valid: %s", wrong) : OK;
}

json_t *page_continue(const char *key, int64_t revision) {
    json_t *o =
        json_pack("{s:s, s:I, s:s}", "v", TOKEN_VERSION, "rv", (json_int_t)revision, "start", key);
    char *text = json_dumps(o, JSON_COMPACT);
    AUTO_BUF token = BUF_INIT;
    base64url_append(&token, text, strlen(text));
    free(text);
    json_decref(o);
    return json_string(token.data);
}

/* The combinations that Kubernetes forbids; each has a cause. */
static enum errc check_options(struct request *rq, struct error *err) {
    const char *match = request_given(rq, "resourceVersionMatch"),
               *version = request_given(rq, "resourceVersion");
    const char *field = "resourceVersionMatch";
    bool exact = match && !strcmp(match, "Exact");
    if (match && !version)
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is "
                  "provided");
    if (match && request_given(rq, "continue"))
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: resourceVersionMatch is forbidden when continue is provided");
    if (match && !exact && strcmp(match, "NotOlderThan") != 0)
        cause_add(rq->causes, CAUSE_NOT_SUPPORTED, field,
                  "Unsupported value: \"%.64s\": supported values: \"Exact\", \"NotOlderThan\", "
                  "\"\"",
                  match);
    if (exact && version && !strcmp(version, "0"))
        cause_add(rq->causes, CAUSE_FORBIDDEN, field,
                  "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion "
                  "\"0\"");
    if (request_given(rq, "sendInitialEvents"))
        cause_add(rq->causes, CAUSE_FORBIDDEN, "sendInitialEvents",
                  "Forbidden: sendInitialEvents is forbidden for list");
    if (!json_array_size(rq->causes))
        return OK;
    rq->options_kind = "ListOptions";
    return err_set(err, ERR_INVALID, "ListOptions is invalid");
}

enum errc page_too_new(struct request *rq, int64_t version, int64_t current, struct error *err) {
    cause_add(rq->causes, "ResourceVersionTooLarge", "", "Too large resource version");
    err_set(err, ERR_TIMEOUT, "Too large resource version: %lld, current: %lld", (long long)version,
            (long long)current);
    err->retry_after_seconds = 1;
    return ERR_TIMEOUT;
}

/* Settles the snapshot of a list without a token. */
static enum errc settle_revision(struct request *rq, struct page *page, struct error *err) {
    const char *match = request_given(rq, "resourceVersionMatch");
    int64_t version;
    enum errc code = page_query_version(rq, &version, err);
    if (code)
        return code;
    if (page->after)
        return version > 0 ? err_set(err, ERR_MALFORMED,
                                     "specifying resource version is not allowed when using "
                                     "continue")
                           : OK;
    if (version > 0 && (match ? !strcmp(match, "Exact") : page->limit > 0))
        page->revision = version;
    int64_t current = store_revision(rq->kube->opt.store);
    return version > current ? page_too_new(rq, version, current, err) : OK;
}

enum errc page_read(struct request *rq, const char *prefix, struct page *ret_page,
                    struct error *err) {
    *ret_page = (struct page){0};
    enum errc code = check_options(rq, err);
    if (!code)
        code = read_limit(rq, ret_page, err);
    if (!code)
        code = read_continue(rq, prefix, ret_page, err);
    return code ? code : settle_revision(rq, ret_page, err);
}

void page_fail_expired(struct request *rq, const struct page *page) {
    struct error err = ERROR_INIT;
    if (!page->after) {
        err_set(&err, ERR_GONE, "The resourceVersion for the provided list is too old.");
        request_fail(rq, &err);
        return;
    }
    err_set(&err, ERR_GONE,
            "The provided continue parameter is too old to display a consistent list result. You "
            "can start a new list without the continue parameter, or use the continue token in "
            "this response to retrieve the remainder of the results. Continuing with the provided "
            "token results in an inconsistent list - objects that were created, modified, or "
            "deleted between the time the first chunk was returned and now may show up in the "
            "list.");
    json_t *status = request_status(rq, &err);
    object_set(status, "metadata.continue", page_continue(page->after, REVISION_NEWEST));
    request_fail_with(rq, status);
}
