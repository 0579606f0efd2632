/* Named tensors, sorted for lookup. */
#include "engine/tensor_source.h"

static int compare(const void *a, const void *b) {
    const struct source_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void tensor_source_sort(struct tensor_source *s) {
    qsort(s->tensors, s->num_tensors, sizeof(*s->tensors), compare);
}

struct source_tensor *tensor_source_find(const struct tensor_source *s, const char *name) {
    struct source_tensor want = {.name = name};
    return bsearch(&want, s->tensors, s->num_tensors, sizeof(*s->tensors), compare);
}
