#!/usr/bin/env python3
"""Makes vectors.json: series, expressions, and what a real Prometheus answers to them.

    make.py PROMETHEUS PROMTOOL > vectors.json

The programs are Debian's package `prometheus` (2.42.0). Expressions that inferd refuses are not here but in
core/series/promql_test.c. Times lie between samples: since version 3 a range leaves its first instant out, as inferd does."""
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BASE = 1_700_000_000  # seconds
STEP = 5
NUM = 60


def counter(rate, reset_every=0, start=0):
    value, values = start, []
    for i in range(NUM):
        values.append(value)
        value = 0 if reset_every and (i + 1) % reset_every == 0 else value + rate * STEP
    return values


def buckets(seconds, shares):
    """A histogram that grows by one observation a step, in order of shares."""
    total, rows = [0] * (len(seconds) + 1), [[] for _ in range(len(seconds) + 1)]
    for i in range(NUM):
        total[shares[i % len(shares)]] += 1
        for k in range(len(rows)):
            rows[k].append(sum(total[:k + 1]))
    return rows


def all_series():
    yield {"__name__": "http_total", "job": "api", "code": "200"}, counter(2)
    yield {"__name__": "http_total", "job": "api", "code": "500"}, counter(0.1, start=3)
    yield {"__name__": "http_total", "job": "web", "code": "200"}, counter(7, reset_every=13, start=1)
    yield {"__name__": "running", "pod": "a", "namespace": "x"}, [i % 7 for i in range(NUM)]
    yield {"__name__": "running", "pod": "b", "namespace": "x"}, [10 - i % 4 for i in range(NUM)]
    yield {"__name__": "running", "pod": "c", "namespace": "y"}, [2.5] * NUM
    yield {"__name__": "waiting", "pod": "a", "namespace": "x"}, [i % 3 for i in range(NUM)]
    yield {"__name__": "waiting", "pod": "c", "namespace": "y"}, [(i * i) % 11 for i in range(NUM)]
    yield {"__name__": "limit", "namespace": "x"}, [20] * NUM
    yield {"__name__": "negative", "pod": "a"}, [-1.75] * NUM
    yield {"__name__": "early", "pod": "a"}, [None if i > 20 else i for i in range(NUM)]
    yield {"__name__": "sparse", "pod": "a"}, [i if i % 9 == 0 else None for i in range(NUM)]
    yield {"__name__": "late", "pod": "a"}, [None if i < 54 else 100 + 30 * i for i in range(NUM)]
    for engine, shares in (("0", [0, 1, 1, 2, 3]), ("1", [1, 1, 4])):
        bounds = [0.1, 0.5, 1, 2.5]
        for bound, values in zip([str(b) for b in bounds] + ["+Inf"], buckets(bounds, shares)):
            yield {"__name__": "ttft_bucket", "engine": engine, "le": bound}, values


EXPRESSIONS = """
1
-1
+1.5e3
0x1F
.5
inf
-Inf
NaN
1 + 2 * 3
(1 + 2) * 3
2 ^ 3 ^ 2
-2 ^ 2
10 % 4
-7 % 3
7 / 0
0 / 0
1 < bool 2
2 == bool 2
3 != bool 3
1 >= bool 2
time()
time() - 1700000000
running
{__name__="running"}
{__name__=~"run.+",pod!="b"}
running{pod="a"}
running{pod=~"a|c"}
running{pod!~"a|c",namespace="x"}
running{absent=""}
running{pod=~".*",namespace!=""}
running{pod="none"}
running offset 1m
running offset -20s
early
early offset 3m
sparse
running[20s]
http_total{code="500"}[17s]
running[20s] offset 1m
-running
running * 2
2 * running
running + on(pod) waiting
running + waiting
running - ignoring(pod) running
running == 2.5
running > 3
3 < running
running > bool 3
running >= waiting
running > bool waiting
running == on(pod, namespace) waiting
running != ignoring(namespace) waiting
running % 4
running ^ 2
running and waiting
running and on(namespace) limit
running or waiting
running or on(namespace) limit
running unless waiting
running unless on(namespace) limit
running or vector(0)
sum(none) or vector(0)
none or vector(7)
limit - on(namespace) sum by (namespace) (running)
sum(running)
sum by (namespace) (running)
sum without (pod) (running)
sum(running) by (namespace)
sum by () (running)
avg(running)
avg by (namespace) (running)
min(running)
max by (namespace) (running)
count(running)
count by (namespace, absent) (running)
group by (pod) (running)
topk(2, running)
topk(1, running) by (namespace)
topk(0, running)
bottomk(2, running)
quantile(0.5, running)
quantile(0.9, running)
sum(sum by (namespace) (running))
rate(http_total[1m])
rate(http_total[33s])
rate(http_total[7s])
rate(http_total[4s])
sum(rate(http_total[1m]))
sum by (code) (rate(http_total[1m]))
rate(http_total{job="web"}[2m])
rate(late[1m])
rate(late[2m])
rate(sparse[2m])
irate(http_total[1m])
irate(http_total{job="web"}[20s])
increase(http_total[1m])
increase(http_total{job="web"}[3m])
increase(early[5m])
increase(late[5m])
delta(running[1m])
delta(late[2m])
idelta(running[1m])
changes(running[1m])
resets(http_total[5m])
avg_over_time(running[1m])
min_over_time(running[1m])
max_over_time(running[31s])
sum_over_time(running[31s])
count_over_time(running[31s])
count_over_time(sparse[3m])
last_over_time(running[1m])
last_over_time(early[5m])
present_over_time(early[5m])
quantile_over_time(0.5, running[1m])
quantile_over_time(0.95, running[1m])
quantile_over_time(1.5, running[1m])
quantile_over_time(-1, running[1m])
rate(http_total[1m] offset 30s)
histogram_quantile(0.5, ttft_bucket)
histogram_quantile(0.95, ttft_bucket)
histogram_quantile(0.01, ttft_bucket)
histogram_quantile(1, ttft_bucket)
histogram_quantile(0, ttft_bucket)
histogram_quantile(1.1, ttft_bucket)
histogram_quantile(0.9, rate(ttft_bucket[1m]))
histogram_quantile(0.9, sum by (le) (rate(ttft_bucket[1m])))
histogram_quantile(0.5, ttft_bucket{le!="+Inf"})
histogram_quantile(0.5, ttft_bucket{le="+Inf"})
histogram_quantile(0.5, running)
histogram_quantile(0.5, none)
abs(negative)
ceil(negative)
floor(negative)
round(negative)
round(running, 0.4)
sqrt(running)
clamp(running, 1, 3)
clamp(running, 3, 1)
clamp_min(running, 4)
clamp_max(running, 4)
scalar(running{pod="c"})
scalar(running)
vector(3)
running + scalar(running{pod="c"})
absent(running)
absent(none)
absent(none{pod="a",namespace!="b",x="y"})
sum(running{pod='a'}) / scalar(limit{namespace=`x`})
sum(running) > 3 and sum(waiting) < 100
sum(running) > 1000
http_total{job="api"} / ignoring(code) http_total{job="web"}
running + on(namespace) running
running == on(namespace) waiting
rate({__name__=~"http.*|late"}[1m])
abs({__name__=~"running|waiting"})
# a remark
running{pod="a"} # and another
sum(
  running
)
SUM(running) BY (namespace)
running{pod="a",}
max_over_time(running[1m30s])
1 + running{pod="c"} * 2 > 5
1 - -1
-running{pod="a"} ^ 2
running{pod="a"} <= bool running{pod="a"} offset 5s
""".strip()


def expressions():
    whole, depth = "", 0
    for line in EXPRESSIONS.split("\n"):
        whole += ("\n" if whole else "") + line
        depth += line.count("(") - line.count(")")
        if depth == 0 and not line.startswith("#"):
            yield whole
            whole = ""


def ask(url, expression, at):
    query = urllib.parse.urlencode({"query": expression, "time": at})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as answer:
            return {"data": json.load(answer)["data"]}
    except urllib.error.HTTPError as e:
        return {"error": json.load(e)["errorType"]}


def main():
    prometheus, promtool = sys.argv[1:3]
    series = [{"labels": labels, "samples": [[(BASE + i * STEP) * 1000, v] for i, v in enumerate(values) if v is not None]}
              for labels, values in all_series()]
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        lines = []
        for s in sorted(series, key=lambda s: s["labels"]["__name__"]):
            labels = ",".join(f'{k}="{v}"' for k, v in s["labels"].items() if k != "__name__")
            lines += [f'{s["labels"]["__name__"]}{{{labels}}} {v} {t / 1000}' for t, v in s["samples"]]
        (home / "metrics").write_text("\n".join(lines) + "\n# EOF\n")
        subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", home / "metrics", home / "data"], check=True,
                       stdout=subprocess.DEVNULL)
        (home / "prometheus.yml").write_text("{}\n")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        process = subprocess.Popen([prometheus, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
                                    "--storage.tsdb.retention.time=100y", f"--web.listen-address={address}"],
                                   stderr=subprocess.DEVNULL)
        try:
            url = f"http://{address}"
            while True:
                try:
                    urllib.request.urlopen(url + "/-/ready")
                    break
                except OSError:
                    time.sleep(0.1)
            queries = [{"expr": e, "at_ms": int(at * 1000), **ask(url, e, at)}
                       for e in expressions() for at in (BASE + 297.3, BASE + 151.7) if at > BASE + 200 or "[" in e]
            with urllib.request.urlopen(url + "/api/v1/status/buildinfo") as answer:
                version = json.load(answer)["data"]["version"]
        finally:
            process.terminate()
            process.wait()
    print('{"made_with": "Prometheus %s",\n"series": [' % version)
    print(",\n".join(json.dumps(s) for s in series))
    print('],\n"queries": [')
    print(",\n".join(json.dumps(q) for q in queries))
    print("]}")


if __name__ == "__main__":
    main()
