#!/usr/bin/env python3
"""Compare `inferd generate` and `inferd tokenize` with the recorded outputs of another engine.

    tests/golden.py build/dev/inferd [--quick] [--only WORD] [--models DIR]

The recordings and the tool that makes their models are outside the repository: ../shared, or where
INFERD_SHARED says. What is not there is skipped, by name; exit status 77 when nothing was compared,
1 when something differs.

Of the synthetic models (golden/tiny-*.json) it asks, per prompt,
  - the prompt's ids, exactly;
  - the greedy tokens up to the first step at which the recorded margin between the two best is below
    5 times the rms difference that the other engine's own fast path has from its exact one;
  - with the recorded tokens forced, at every other step the recorded token as the best one;
  - that our fast path is no further from our exact one (--dtype float32) than theirs was;
  - that our exact path has their exact margins and their five best logits.
Of the trained models (models/*) it asks for the recorded story up to the first near tie, for the five
best logits of the first step, and for the perplexity of a text. Of the tokenizers
(golden/tokenizer-*.json) for the ids of every text.

--quick: a prompt of each synthetic model and every eighth text.  --models: keep the synthetic models
there instead of in a temporary folder.
"""
import argparse
import concurrent.futures
import hashlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("INFERD_SHARED") or ROOT.parent / "shared")
NEAR_TIE = 5          # margins below this many times the recorded rms difference may go either way
EXACT_RMS = 0.01      # between two exact paths: other summation order, five recorded digits
FIVE_DIGITS = 5e-3    # a recorded logit's own rounding, and ours through a softmax
Q8_0_NOISE = 0.25     # that recording rounded activations to 8 bits; logits differ by 0.18 at most
COMMAND_SECONDS = 300


class Mismatch(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Mismatch(message)


class Inferd:
    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())

    def run(self, *args, text=None):
        done = subprocess.run([self.program, *map(str, args)], input=text, capture_output=True,
                              timeout=COMMAND_SECONDS)
        if done.returncode:
            raise Mismatch("%s: exit status %d: %s" % (
                " ".join(map(str, args))[:200], done.returncode,
                done.stderr.decode(errors="replace").strip()[-500:]))
        return done.stdout

    def generate(self, model, prompt, *args):
        return json.loads(self.run("generate", "--model", model, "--prompt", prompt, "--json", *args))

    def tokenize(self, model, text, add_special, parse_special):
        args = ["--add-special"] * add_special + ["--parse-special"] * parse_special
        return json.loads(self.run("tokenize", "--model", model, "--json", *args,
                                   text=text.encode("utf-8", "surrogatepass")))


def make_model(golden, folder):
    """The model file that a recording belongs to, made by the tool that it names."""
    path = folder / (hashlib.sha256(golden["make_gguf"].encode()).hexdigest()[:16] + ".gguf")
    if not path.exists():
        partial = path.with_suffix(".partial")
        subprocess.run([sys.executable, SHARED / "tools/make_gguf", *golden["make_gguf"].split(),
                        "-o", partial], check=True, stdout=subprocess.DEVNULL)
        partial.rename(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    check(digest == golden["sha256"], "make_gguf made sha256 %s, not the recorded one" % digest)
    return path


def rms(values):
    values = list(values)
    return math.sqrt(sum(v * v for v in values) / len(values))


def margin(logprobs, token):
    """How far `token` is above the best of the others."""
    return logprobs[token] - max(x for i, x in logprobs.items() if i != token)


def distance(a, b):
    """RMS difference of two rows of logits that are known up to a constant each."""
    differences = [a[i] - b[i] for i in a]
    mean = sum(differences) / len(differences)
    return rms(d - mean for d in differences)


def forced_rows(inferd, model, prompt, tokens, *args):
    out = inferd.generate(model, prompt["text"], "--force-tokens", ",".join(map(str, tokens)),
                          "--top-logprobs", 1 << 20, *args)
    check(out["tokens"] == tokens, "forced tokens came back as %s" % out["tokens"])
    return [dict(map(tuple, row["top"])) for row in out["logprobs"]]


def compare_synthetic_prompt(inferd, model, prompt):
    reference, native = prompt["reference"], prompt["native"]
    tokens, margins = reference["greedy"], reference["greedy_margin"]
    sure = NEAR_TIE * native["rms_diff"]
    until = next((i for i, m in enumerate(margins) if m < sure), len(margins))

    free = inferd.generate(model, prompt["text"], "--max-tokens", len(tokens), "--ignore-eos",
                           "--temperature", 0, "--top-logprobs", 5)
    check(free["prompt_tokens"] == prompt["ids"],
          "prompt ids %s, recorded %s" % (free["prompt_tokens"], prompt["ids"]))
    check(free["tokens"][:until] == tokens[:until],
          "greedy %s, recorded %s (sure up to %d)" % (free["tokens"], tokens, until))

    fast = forced_rows(inferd, model, prompt, tokens)
    exact = forced_rows(inferd, model, prompt, tokens, "--dtype", "float32")
    for i, row in enumerate(fast):
        best = max(row, key=lambda t: (row[t], -t))
        check(margins[i] < sure or best == tokens[i],
              "step %d: best is %d, recorded %d by %.3f" % (i, best, tokens[i], margins[i]))

    off = rms(margin(row, t) - m for row, t, m in zip(exact, tokens, margins))
    check(off <= EXACT_RMS, "exact path: margins are off by %.4f rms" % off)
    ids = [i for i, _ in reference["top5"]]
    for i, x in reference["top5"]:
        ours, theirs = exact[0][i] - exact[0][ids[0]], x - reference["top5"][0][1]
        check(abs(ours - theirs) <= FIVE_DIGITS + EXACT_RMS,
              "exact path: logit of %d is off by %.4f" % (i, ours - theirs))
    apart = rms(distance(f, e) for f, e in zip(fast, exact))
    # Of unquantised weights the fast path is exact but for rounding: do not ask for less than that.
    check(apart <= max(native["rms_diff"], FIVE_DIGITS),
          "fast path is %.5f from the exact one, the other engine's %.5f" %
          (apart, native["rms_diff"]))
    return apart / native["rms_diff"], until, off


def synthetic(inferd, folder, path, quick):
    golden = json.loads(path.read_text())
    model = make_model(golden, folder)
    prompts = golden["prompts"][:1] if quick else golden["prompts"]
    ratios, sure, offs = zip(*(compare_synthetic_prompt(inferd, model, p) for p in prompts))
    return "%d prompts, %d sure steps; distance from exact %.2f of theirs, exact margins off %.5f" % (
        len(prompts), sum(sure), max(ratios), max(offs))


def trained(inferd, model, path, noise, args):
    golden, steps = json.loads(path.read_text()), 0
    for case in golden["cases"]:
        tokens = case["greedy_tokens"]
        out = inferd.generate(model, case["prompt"], "--max-tokens", len(tokens), "--temperature", 0,
                              "--top-logprobs", 20, *args)
        name = repr(case["prompt"])
        check(out["prompt_tokens"] == case["prompt_tokens"], "%s: prompt ids %s, recorded %s" % (
            name, out["prompt_tokens"], case["prompt_tokens"]))
        rows = [dict(map(tuple, row["top"])) for row in out["logprobs"]]
        ties = case["steps_with_gap_below_0.01"] + [
            i for i, (row, t) in enumerate(zip(rows, out["tokens"])) if margin(row, t) < 2 * noise]
        until = min(ties, default=len(tokens))
        steps += until
        check(out["tokens"][:until] == tokens[:until], "%s: tokens %s, recorded %s (sure: %d)" % (
            name, out["tokens"], tokens, until))
        if out["tokens"] == tokens:
            check(case["text"].startswith(out["text"]), "%s: text %r" % (name, out["text"]))
            check(out["finish_reason"] == case["finish"], "%s: ended by %s, recorded %s" % (
                name, out["finish_reason"], case["finish"]))
        first = case["first_step_top5"]
        for i, x in first:
            check(i in rows[0], "%s: %d is not among the first step's best" % (name, i))
            off = rows[0][i] - rows[0][first[0][0]] - (x - first[0][1])
            check(abs(off) < noise, "%s: first step's logit of %d is off by %.4f" % (name, i, off))
    return "%d stories, %d sure steps" % (len(golden["cases"]), steps)


def perplexity(inferd, model, path, noise, args):
    wanted = json.loads(path.read_text())["perplexity"]
    ids = inferd.generate(model, wanted["text"], "--max-tokens", 1, *args)["prompt_tokens"]
    out = json.loads(inferd.run("generate", "--model", model, "--json", "--prompt-tokens", ids[0],
                                "--force-tokens", ",".join(map(str, ids[1:])), *args))
    nll = -sum(row["logprob"] for row in out["logprobs"]) / len(out["logprobs"])
    check(abs(nll - wanted["mean_nll"]) < noise / 5,
          "mean negative log-likelihood %.5f, recorded %.5f" % (nll, wanted["mean_nll"]))
    return "perplexity %.4f, recorded %.4f" % (math.exp(nll), wanted["ppl"])


def tokenizer(inferd, folder, path, quick):
    golden = json.loads(path.read_text())
    model = make_model(golden, folder)
    cases = golden["cases"][::8] if quick else golden["cases"]
    for case in cases:
        ids = inferd.tokenize(model, case["text"], case["add_special"], case["parse_special"])
        check(ids == case["ids"], "%r (add_special %s, parse_special %s): %s, recorded %s" % (
            case["text"], case["add_special"], case["parse_special"], ids, case["ids"]))
    return "%d texts" % len(cases)


def plan(inferd, folder, quick):
    """(name, function) of every comparison whose data is there."""
    golden, models = SHARED / "data/golden", SHARED / "data/models"
    for path in sorted(golden.glob("tiny-*.json")):
        yield path.stem, lambda path=path: synthetic(inferd, folder, path, quick)
    for path in sorted(golden.glob("tokenizer-*.json")):
        yield path.stem, lambda path=path: tokenizer(inferd, folder, path, quick)
    exact = ["--dtype", "float32"]
    for model, expected, noise in (
            ("stories260K/stories260K.gguf", "stories260K/expected.json", FIVE_DIGITS),
            ("tinystories-656k/tinystories-656k-f32.gguf", "tinystories-656k/expected.json",
             FIVE_DIGITS),
            ("tinystories-656k/tinystories-656k-q8_0.gguf", "tinystories-656k/expected-q8_0.json",
             Q8_0_NOISE),
            ("tinystories-656k", "tinystories-656k/expected.json", FIVE_DIGITS)):
        if (models / model).exists():
            for what in (trained, perplexity):
                yield "%s %s" % (model, what.__name__), lambda what=what, model=model, noise=noise, \
                    expected=expected: what(inferd, models / model, models / expected, noise, exact)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("inferd")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", metavar="WORD", help="comparisons with this in the name")
    parser.add_argument("--models", metavar="DIR")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()

    for needed in ("data/golden", "data/models", "tools/make_gguf"):
        if not (SHARED / needed).exists():
            print("skipped: %s is not there" % (SHARED / needed))
    failed, compared = 0, 0
    with tempfile.TemporaryDirectory(prefix="inferd-golden-") as temporary:
        folder = pathlib.Path(args.models or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        todo = [(n, f) for n, f in plan(Inferd(args.inferd), folder, args.quick)
                if re.search(args.only, n)]
        with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
            for name, result in [(n, pool.submit(f)) for n, f in todo]:
                compared += 1
                try:
                    print("ok      %s: %s" % (name, result.result()), flush=True)
                except (Mismatch, subprocess.SubprocessError, ValueError, KeyError) as e:
                    failed += 1
                    print("FAILED  %s: %s" % (name, e), flush=True)
    print("%d compared, %d failed" % (compared, failed))
    return 77 if not compared else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
