/* Examinations by greedy decoding, without decoding.
 *
 * An answer is right when its tokens, up to <|im_end|>, are exactly those of an accepted answer.
 * Greedy decoding gives exactly those tokens when, with prompt and accepted answer laid before the
 * model at once, the most likely next token at every position of the answer is the answer's own. So
 * an examination is one forward pass over all questions; only the wrong answers that a human wants
 * to see are decoded. */
#include "engine/demo/exam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SKILLS_MAX = 32,
    ANSWERS_MAX = 8,
    BATCH_TOKENS = 2048,
    SHOWN_TOKENS_MAX = 60,
};

struct question {
    int skill, prompt_len, num_answers;
    const uint16_t *prompt;
    const uint16_t *answer[ANSWERS_MAX]; /* points at length, tokens */
};

struct exam {
    uint16_t *data;
    struct question *questions;
    int num_questions, num_skills;
    char skill[SKILLS_MAX][32];
};

static bool read_skills(struct exam *e, const char *path) {
    char name[4096];
    snprintf(name, sizeof name, "%s.skills", path);
    FILE *f = fopen(name, "r");
    if (!f)
        return false;
    for (char *s; e->num_skills < SKILLS_MAX && (s = fgets(e->skill[e->num_skills], 32, f));
         e->num_skills++)
        s[strcspn(s, "\n")] = '\0';
    fclose(f);
    return true;
}

struct exam *exam_open(const char *path) {
    struct exam *e = calloc(1, sizeof *e);
    FILE *f = fopen(path, "rb");
    if (!e || !f || !read_skills(e, path)) {
        if (f)
            fclose(f);
        free(e);
        return NULL;
    }
    enum { WORDS_MAX = 1 << 20 };
    e->data = calloc(WORDS_MAX, 2);
    size_t words = fread(e->data, 2, WORDS_MAX - 1024, f);
    fclose(f);
    e->questions = calloc(words / 4 + 1, sizeof *e->questions);
    for (size_t at = 0; at < words; e->num_questions++) {
        struct question *q = &e->questions[e->num_questions];
        q->skill = e->data[at++];
        q->prompt_len = e->data[at++];
        q->prompt = e->data + at;
        at += q->prompt_len;
        q->num_answers = e->data[at++];
        for (int i = 0; i < q->num_answers && i < ANSWERS_MAX; i++) {
            q->answer[i] = e->data + at;
            at += 1 + e->data[at];
        }
    }
    return e;
}

void exam_close(struct exam *e) {
    if (!e)
        return;
    free(e->data);
    free(e->questions);
    free(e);
}

/* Prompts with an accepted answer each, packed for one forward pass. */
struct trials {
    struct batch batch;
    int start[BATCH_TOKENS + 1];
    uint16_t token[BATCH_TOKENS];
    int question[BATCH_TOKENS], answer[BATCH_TOKENS]; /* [num_sequences] indices */
};

static int end_token(const struct net *n) {
    return n->shape.vocab - 1; /* <|im_end|> is the last token of the vocabulary */
}

static void trials_add(struct trials *t, const struct exam *e, int question, int answer) {
    const struct question *q = &e->questions[question];
    const uint16_t *words = q->answer[answer];
    struct batch *b = &t->batch;

    t->question[b->num_sequences] = question;
    t->answer[b->num_sequences] = answer;
    t->start[b->num_sequences++] = b->num_tokens;
    memcpy(t->token + b->num_tokens, q->prompt, q->prompt_len * sizeof *words);
    memcpy(t->token + b->num_tokens + q->prompt_len, words + 1, words[0] * sizeof *words);
    b->num_tokens += q->prompt_len + words[0];
    t->start[b->num_sequences] = b->num_tokens;
}

/* Runs the packed trials, marks the questions they answer, and empties the pack. */
static void trials_run(struct trials *t, const struct exam *e, const struct net *n,
                       struct activations *a, bool *right) {
    struct batch *b = &t->batch;

    b->start = t->start, b->token = t->token;
    net_forward(n, b, a);
    for (int s = 0; s < b->num_sequences; s++) {
        const struct question *q = &e->questions[t->question[s]];
        const uint16_t *words = q->answer[t->answer[s]];
        bool same = true;
        for (int i = 0; i <= words[0] && same; i++) {
            int wanted = i < words[0] ? words[1 + i] : end_token(n);
            same = net_argmax(n, a, t->start[s] + q->prompt_len - 1 + i) == wanted;
        }
        right[t->question[s]] |= same;
    }
    b->num_tokens = b->num_sequences = 0;
}

static void judge_all(const struct exam *e, const struct net *n, struct activations *a,
                      bool *right) {
    static struct trials t;

    for (int i = 0; i < e->num_questions; i++)
        for (int j = 0; j < e->questions[i].num_answers; j++) {
            int len = e->questions[i].prompt_len + e->questions[i].answer[j][0];
            if (t.batch.num_tokens + len > BATCH_TOKENS)
                trials_run(&t, e, n, a, right);
            trials_add(&t, e, i, j);
        }
    trials_run(&t, e, n, a, right);
}

/* Decodes greedily, the whole text again for every token, and prints token ids. */
static void show_answer(const struct net *n, struct activations *a, int index,
                        const struct question *q) {
    uint16_t token[BATCH_TOKENS];
    int start[2] = {0}, len = q->prompt_len;

    memcpy(token, q->prompt, q->prompt_len * sizeof *token);
    do {
        struct batch b = {.start = start, .token = token, .num_sequences = 1, .num_tokens = len};
        start[1] = len;
        net_forward(n, &b, a);
        token[len] = net_argmax(n, a, len - 1);
        len++;
    } while (token[len - 1] != end_token(n) && len < q->prompt_len + SHOWN_TOKENS_MAX);
    printf("wrong %d:", index);
    for (int i = 0; i < len; i++)
        printf(" %d", token[i]);
    printf("\n");
}

double exam_run(const struct exam *e, const struct net *n, bool brief, bool show_wrong) {
    int asked[SKILLS_MAX] = {0}, good[SKILLS_MAX] = {0}, total = 0, count = e->num_questions;
    struct activations *a = activations_create(&n->shape, BATCH_TOKENS);
    bool *right = calloc(count, sizeof *right);

    judge_all(e, n, a, right);
    for (int i = 0; i < count; i++) {
        asked[e->questions[i].skill]++;
        good[e->questions[i].skill] += right[i];
        total += right[i];
        if (show_wrong && !right[i])
            show_answer(n, a, i, &e->questions[i]);
    }
    for (int s = 0; s < e->num_skills; s++)
        if (brief)
            printf("%s%.6s %.0f", s ? ", " : "  ", e->skill[s], 100.0 * good[s] / asked[s]);
        else
            printf("%-16s %4d of %4d  %5.1f %%\n", e->skill[s], good[s], asked[s],
                   100.0 * good[s] / asked[s]);
    printf("%s%-16s %4d of %4d  %5.1f %%\n", brief ? "\n  " : "", "all", total, count,
           100.0 * total / count);
    activations_destroy(a);
    free(right);
    return (double)total / count;
}
