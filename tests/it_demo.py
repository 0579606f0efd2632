#!/usr/bin/env python3
"""The demo models' examination: questions that are not in their training text, asked over HTTP with
greedy decoding. demo-chat must pass it, demo-chat-weak must be clearly below."""
import collections
import concurrent.futures
import json

from harness import ROOT, Daemon, inference_service, post, run_tests, skip

QUESTIONS = ROOT / "engine" / "demo" / "eval.jsonl"
STRONG_MIN, GAP_MIN = 0.95, 0.10


def examine(d, model):
    """Share of right answers, and {skill: [right, asked]}."""
    questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]

    def ask(q):
        status, answer, _ = post(d.gateway + "/v1/chat/completions",
                                 {"model": model, "messages": q["messages"], "temperature": 0, "max_tokens": 460})
        assert status == 200, answer
        return answer["choices"][0]["message"]["content"].strip() in q["expect"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        right = list(pool.map(ask, questions))
    skills = collections.defaultdict(lambda: [0, 0])
    for q, ok in zip(questions, right):
        skills[q["skill"]][0] += ok
        skills[q["skill"]][1] += 1
    return sum(right) / len(right), dict(skills)


def the_strong_model_passes_and_the_weak_one_is_clearly_below(program):
    with Daemon(program) as d:
        share = {}
        for name in ("demo-chat", "demo-chat-weak"):
            d.apply(inference_service(name, f"embedded://{name}"))
            d.wait_ready(name)
            share[name], skills = examine(d, name)
            print(f"  {name}: {share[name]:.1%}  " + ", ".join(f"{s} {r}/{n}" for s, (r, n) in sorted(skills.items())))
        assert share["demo-chat"] >= STRONG_MIN, share
        assert share["demo-chat-weak"] <= share["demo-chat"] - GAP_MIN, share


if __name__ == "__main__":
    for model in ("demo-chat.gguf", "demo-chat-weak.gguf"):
        if not (ROOT / "engine" / "demo" / model).exists():
            skip(f"engine/demo/{model} is not in this checkout")
    run_tests(the_strong_model_passes_and_the_weak_one_is_clearly_below)
