/* Examinations: held-out questions, answered greedily and compared token by token. */
#ifndef ENGINE_DEMO_EXAM_H
#define ENGINE_DEMO_EXAM_H

#include "engine/demo/net.h"

struct exam;

/* Reads what `corpus.py evalbin` wrote; NULL when it cannot. */
struct exam *exam_open(const char *path);
void exam_close(struct exam *e);

/* Answers all questions and prints one line per skill to stdout, or only the total when `brief`.
 * `show_wrong` prints the tokens of wrong answers. Gives the share of right answers. */
double exam_run(const struct exam *e, const struct net *n, bool brief, bool show_wrong);

#endif
