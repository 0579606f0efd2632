#!/usr/bin/env python3
"""What a replica takes of memory: worked out before it starts, within 5 % of what it then uses."""
import json
import os
import pathlib
import random
import subprocess
import tempfile
import threading
import urllib.request

from harness import PATIENCE, SHARED, Daemon, inference_service, run_tests, skip, wait_for

# Vocabulary and largest context, so that a test can look every row of the embedding up and fill the cache.
MODELS = {
    "packed": ("--arch qwen3 --type q4_k_m --vocab 8000 --embd 512 --layers 4 --heads 8 --kv-heads 8 --head-dim 64"
               " --ffn 1536 --ctx 2048", 8000),
    "mapped": ("--arch llama --type f16 --vocab 4000 --embd 512 --layers 4 --heads 8 --kv-heads 8 --head-dim 64"
               " --ffn 1536 --ctx 2048", 4000),
}

# What the kernel maps of the program's and the libraries' files, beside what is used of them, differs from one
# start to the next. A process of 25 MB cannot be told to 5 %; those of the models here have above 100.
NOISE = 5 << 19


def make_models(folder):
    tool = SHARED / "tools/make_gguf"
    if not tool.exists() or not os.access("/usr/bin/python3", os.X_OK):
        skip(f"{tool} is not there")
    for name, (options, _) in MODELS.items():
        subprocess.run(["/usr/bin/python3", tool, "--preset", "tiny", *options.split(), "-o", folder / f"{name}.gguf"],
                       check=True, capture_output=True, timeout=PATIENCE)


def service(name, reference, **args):
    s = inference_service(name, reference)
    s["spec"]["predictor"]["model"]["args"] = [f"--{k.replace('_', '-')}={v}" for k, v in args.items()]
    return s


def pod_of(d, name):
    pods = d.get("pods", "-l", f"serving.kserve.io/inferenceservice={name}")["items"]
    return next((p for p in pods if "deletionTimestamp" not in p["metadata"]), None)


def need_of(pod):
    return json.loads(pod["metadata"].get("annotations", {}).get("inferd.io/memory", "{}"))


def resident(d, pod):
    """Bytes of the replica's process: the one whose socket has the pod's uid in its name."""
    for stat in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{pod['metadata']['uid']}.sock" not in (stat / "cmdline").read_text():
                continue
            lines = (stat / "status").read_text().split("\n")
        except OSError:
            continue
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    raise AssertionError("the replica has no process")


def fill(d, name, vocab, num, length):
    """Fills the cache, in steps as large as they get: every prompt is longer than a step. Each has other tokens; some
    want the prompt's probabilities."""
    failed = []

    def ask(seed):
        dice = random.Random(seed)
        body = {"model": name, "prompt": [dice.randrange(vocab) for _ in range(length)], "max_tokens": 4,
                "ignore_eos": True, "temperature": 0.7, "top_p": 0.9}
        if seed % 4 == 0:
            body |= {"echo": True, "logprobs": 2}
        request = urllib.request.Request(f"{d.gateway}/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:  # the answer itself is noise
            urllib.request.urlopen(request, timeout=PATIENCE).read()
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(num)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed


def the_figure_is_within_5_percent_of_what_is_used(program):
    if os.environ.get("INFERD_SANITIZE"):
        skip("a sanitizer's own memory is not counted")
    with tempfile.TemporaryDirectory(prefix="inferd-memory-") as folder, Daemon(program) as d:
        folder = pathlib.Path(folder)
        make_models(folder)
        rows = [("demo", "embedded://demo-chat", 400, 32, 200, {"max_num_seqs": 32, "max_num_batched_tokens": 128})]
        rows += [(name, str(folder / f"{name}.gguf"), MODELS[name][1], 18, 250,
                  {"max_model_len": 256, "max_num_seqs": 16, "max_num_batched_tokens": 128,
                   "kv_cache_memory_bytes": 64 << 20}) for name in MODELS]
        for name, reference, vocab, num, length, args in rows:
            d.apply(service(name, reference, **args))
            d.wait_ready(name)
            fill(d, name, vocab, num, length)
            pod = wait_for("the measured figure", lambda n=name: (p := pod_of(d, n)) and need_of(p).get("measured") and p)
            need, used = need_of(pod), resident(d, pod)
            print(f"# {name}: computed {need['bytes'] / used:.3f}, measured {need['measured'] / used:.3f} of "
                  f"{used >> 10} KiB used ({need})")
            for figure in ("bytes", "measured"):
                assert abs(need[figure] - used) <= max(used / 20, NOISE), (name, figure, need, used)


run_tests(the_figure_is_within_5_percent_of_what_is_used)
