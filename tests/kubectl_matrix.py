#!/usr/bin/env python3
"""kubectl's commands with every kubectl that is to be had, each against a fresh daemon: exit status and
output are what was recorded.

    tests/kubectl_matrix.py INFERD [--only 1.32] [--record]

A version without a recording is left out, by name. What a command needs to have happened before is waited for
(Until); what goes on while something else is done (Meanwhile) is known to have begun by the daemon's count of
open watches.

tests/kubectl_matrix/common.txt has the recording of most versions; VERSION.txt has, for one version,
the commands that it answers otherwise (none: an empty file). What differs from run to run (ages, uids, revisions, names of the
machine) is replaced by words in <>."""
import argparse
import concurrent.futures
import dataclasses
import difflib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading

from harness import PATIENCE, ROOT, Daemon, skip, wait_for
from it_conformance import Api

RECORDINGS = ROOT / "tests" / "kubectl_matrix"
COMMON = "1.32"  # common.txt is this version's
VERSIONS_AT_ONCE = 2

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: IMAGE, env: [{name: A, value: "1"}], ports: [{containerPort: 80}]}
"""
WAITS = """
apiVersion: v1
kind: Pod
metadata: {name: waits, labels: {app: waits}}
spec:
  nodeSelector: {example.com/none: "true"}
  containers: [{name: main, image: i}]
"""
LLM = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: llm}
spec:
  predictor:
    minReplicas: 0
    MORE
    model: {modelFormat: {name: gguf}, storageUri: "file:///absent/model.gguf"}
"""
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, maximum: 9}}}, status: {type: object, properties: {size: {type: integer}}}}}}
"""
WIDGET = """
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
spec: {size: SIZE}
"""
APPLIED = """
apiVersion: v1
kind: ConfigMap
metadata: {name: ssa}
data: {a: VALUE}
"""
REPLACED = """
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {new: all}
"""
ENGINE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: served, labels: {app: served}}
spec:
  replicas: 1
  selector: {matchLabels: {app: served}}
  template:
    metadata: {labels: {app: served}}
    spec:
      terminationGracePeriodSeconds: 5
      containers: [{name: c, image: inferd/engine, args: [--model, "embedded://demo-chat"]}]
"""
GUARD = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard}
spec: {minAvailable: 1, selector: {matchLabels: {app: served}}}
"""
HELD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.com/hold]}
"""
DIFFERENT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: watched}
data: {a: other}
"""
KUSTOMIZATION = """
namePrefix: k-
resources: [held.yaml]
configMapGenerator: [{name: made, literals: [a=b]}]
"""


@dataclasses.dataclass
class Until:
    """Not recorded: the command is repeated until its output matches."""
    command: str
    pattern: str


@dataclasses.dataclass
class Meanwhile:
    """A command that goes on while others are run, once it watches. It ends by itself, or after so many lines of output."""
    command: str
    others: tuple
    lines: int = 0


EDITOR = '#!/bin/sh\nsed -i "s/^  z: .*/  z: edited/" "$1"\n'

# A command line (without "kubectl"), and what is on its standard input. kube-wire.md's order.
COMMANDS = [
    ("get --raw /version",),
    ("cluster-info",),
    ("get --raw /readyz",),
    ("auth whoami",),
    ("auth can-i create deployments",),
    ("auth can-i get pods --as nobody",),
    ("create namespace other",),
    ("create configmap cm --from-literal=a=b --from-literal=z=1",),
    ("create configmap cm",),
    ("create configmap UPPER",),
    ("create configmap dry --dry-run=server -o name",),
    ("create secret generic s --from-literal=k=v",),
    ("create serviceaccount sa",),
    ("create role r --verb=get --resource=pods",),
    ("create rolebinding rb --role=r --serviceaccount=default:sa",),
    ("auth can-i get pods --as system:serviceaccount:default:sa",),
    ("create deployment typed --image=i --replicas=0",),
    ("create service clusterip svc --tcp=80:8080",),
    ("create quota q --hard=pods=5",),
    ("create job j --image=i",),
    ("run once --image=i --overrides={\"spec\":{\"nodeSelector\":{\"example.com/none\":\"true\"}}}",),
    ("apply -f -", WEB.replace("IMAGE", "one")),
    ("apply -f -", WEB.replace("IMAGE", "one")),
    ("diff -f -", WEB.replace("IMAGE", "one")),
    ("rollout status deployment/web --timeout=60s",),
    ("apply -f - --dry-run=server", WEB.replace("IMAGE", "two")),
    ("apply -f -", WEB.replace("IMAGE", "two")),
    ("rollout status deployment/web --timeout=60s",),
    ("apply -f -", WEB.replace("IMAGE", "two").replace("replicas: 0", "replcas: 0")),
    ("apply -f - --validate=false", WEB.replace("IMAGE", "two").replace("{app: web}}\n  template", "{app: x}}\n  template")),
    ("apply -f -", WAITS),
    ("apply -f -", WIDGETS),
    ("wait --for=condition=Established crd/widgets.example.com",),
    ("apply -f -", WIDGET.replace("SIZE", "3")),
    ("apply -f -", WIDGET.replace("SIZE", "4")),
    ("apply -f -", WIDGET.replace("SIZE", "12")),
    ("apply -f - --server-side", APPLIED.replace("VALUE", "b")),
    ("apply -f - --server-side --field-manager=other", APPLIED.replace("VALUE", "c")),
    ("apply -f - --server-side --field-manager=other --force-conflicts", APPLIED.replace("VALUE", "c")),
    ("get configmaps",),
    ("get deployments",),
    ("get deployments -o wide",),
    ("get deployment web -o name",),
    ("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}{.spec.strategy.type}",),
    ("get configmap cm -o yaml",),
    ("get configmap cm -o json",),
    ("get configmap cm -o custom-columns=N:.metadata.name,A:.data.a",),
    ("get deployments --show-labels",),
    ("get deployments -l app in (web),!none -o name",),
    ("get configmaps --field-selector metadata.name=cm -o name",),
    ("get services -A",),
    ("get widgets,configmaps -o name",),
    ("get wd w",),
    ("get configmaps --sort-by=.metadata.name",),
    ("get configmaps --chunk-size=1 -o name",),
    ("get configmap absent",),
    ("get unicorns",),
    ("get pods",),
    ("get deployment web --subresource=scale",),
    ("describe configmap ssa",),
    ("describe secret s",),
    ("describe deployment web",),
    ("describe role r",),
    ("describe namespace other",),
    ("explain widget.spec",),
    ("patch configmap cm --type=merge -p {\"data\":{\"x\":\"y\"}}",),
    ("patch configmap cm --type=merge -p {\"data\":{\"x\":\"y\"}}",),
    ("patch configmap cm --type=json -p [{\"op\":\"test\",\"path\":\"/data/x\",\"value\":\"no\"}]",),
    ("patch deployment web -p {\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"side\",\"image\":\"s\"}]}}}}",),
    ("rollout status deployment/web --timeout=60s",),
    ("get deployment web -o jsonpath={.spec.template.spec.containers[*].name}",),
    ("patch widget w --type=strategic -p {\"spec\":{\"size\":1}}",),
    ("edit configmap cm",),
    ("get configmap cm -o jsonpath={.data.z}",),
    ("replace -f -", REPLACED),
    ("label configmap cm tier=a",),
    ("label configmap cm tier=b",),
    ("label configmap cm tier=b --overwrite",),
    ("annotate configmap cm note=x",),
    ("annotate configmap cm note=y --overwrite --resource-version=1",),
    ("set image deployment/web c=four",),
    ("rollout status deployment/web --timeout=60s",),
    ("set env deployment/web -c c B=2",),
    ("rollout status deployment/web --timeout=60s",),
    ("set resources deployment/web -c c --limits=cpu=1",),
    ("rollout status deployment/web --timeout=60s",),
    ("scale deployment typed --replicas=0 --current-replicas=0",),
    ("scale widget w --replicas=2",),
    ("autoscale deployment typed --min=1 --max=3 --cpu-percent=50",),
    ("get hpa typed -o jsonpath={.spec.maxReplicas}",),
    ("expose deployment web --port=80",),
    ("rollout history deployment/web",),
    ("rollout pause deployment/web",),
    ("rollout resume deployment/web",),
    ("rollout restart deployment/web",),
    ("rollout status deployment/web --timeout=60s",),
    ("rollout undo deployment/web",),
    ("rollout status deployment/web --timeout=60s",),
    ("logs waits",),
    ("logs waits -c x",),
    ("logs absent",),
    ("cordon NODE",),
    ("get nodes --no-headers",),
    ("uncordon NODE",),
    ("taint node NODE a=b:NoSchedule",),
    ("taint node NODE a:NoSchedule-",),
    ("certificate approve absent",),
    ("create token absent",),
    ("events --for configmap/cm",),
    ("wait --for=condition=Available deployment/typed --timeout=60s",),
    ("wait --for=delete configmap/absent --timeout=5s",),
    ("delete configmap ssa --dry-run=server",),
    ("delete configmap ssa",),
    ("delete configmap ssa",),
    ("delete configmap ssa --ignore-not-found",),
    ("delete widgets --all",),
    ("delete crd widgets.example.com",),
    ("get widgets",),
    ("delete deployment,service -l app=web",),
    ("delete pod waits --grace-period=0 --force",),
    ("apply -f -", LLM.replace("MORE", "maxReplicas: 1")),
    ("apply -f -", LLM.replace("MORE", "maxReplicas: 2")),
    ("apply -f -", LLM.replace("MORE", "maxReplcas: 2")),
    ("get isvc -o name",),
    ("delete isvc llm",),
    ("delete namespace other",),

    # What goes on, and what arrives meanwhile.
    ("create configmap watched --from-literal=a=b",),
    Meanwhile("get configmap watched -w", ("label configmap watched x=y",), lines=3),
    Meanwhile("get configmaps --watch-only --output-watch-events --field-selector metadata.name=watched",
              ("label configmap watched x=z --overwrite", "delete configmap watched"), lines=3),
    ("create configmap watched --from-literal=a=b",),
    Meanwhile("get configmaps -w -o name --field-selector metadata.name=watched",
              ("annotate configmap watched x=y",), lines=2),
    ("apply -f -", HELD),
    ("delete configmap held --wait=false",),
    Meanwhile("wait --for=delete configmap/held --timeout=60s",
              ("patch configmap held --type=json -p [{\"op\":\"remove\",\"path\":\"/metadata/finalizers\"}]",)),
    ("create deployment later --image=i --replicas=0",),
    ("rollout status deployment/later --timeout=60s",),
    ("rollout pause deployment/later",),
    Meanwhile("wait --for=condition=Marked deployment/later --timeout=60s",
              ("patch deployment later --type=merge -p {\"metadata\":{\"annotations\":{\"a\":\"b\"}}}",
               "STATUS deployments/later {\"conditions\":[{\"type\":\"Marked\",\"status\":\"True\"}]}")),
    ("wait --for=condition=Never deployment/later --timeout=1s",),
    ("wait --for=jsonpath={.spec.paused}=true deployment/later --timeout=5s",),
    ("diff -f -", DIFFERENT),
    ("replace --force -f -", DIFFERENT),
    ("apply -k KUSTOMIZATION",),
    ("get -k KUSTOMIZATION -o name",),
    ("patch configmap k-held --type=merge -p {\"metadata\":{\"finalizers\":null}}",),
    ("delete -k KUSTOMIZATION",),

    # Owners and what they own.
    ("delete deployment later --cascade=orphan",),
    Until("get replicasets -l app=later -o jsonpath={.items[*].metadata.ownerReferences}", "^$"),
    ("get replicasets -l app=later",),
    ("delete replicasets -l app=later --cascade=background",),
    ("create deployment later --image=i --replicas=0",),
    ("rollout status deployment/later --timeout=60s",),
    ("delete deployment later --cascade=foreground",),
    ("get replicasets -l app=later",),
    ("delete deployment later --cascade=sideways",),

    # Nodes.
    ("apply -f -", ENGINE),
    ("rollout status deployment/served --timeout=60s",),
    ("get pods -l app=served",),
    ("get events --field-selector involvedObject.name=served,reason=ScalingReplicaSet "
     "-o custom-columns=T:.type,M:.message",),
    ("events --for deployment/served",),
    ("events --types=Warning,Unheard",),
    Meanwhile("get events -w --field-selector involvedObject.name=served,reason=ScalingReplicaSet "
              "-o custom-columns=M:.message --no-headers",
              ("scale deployment served --replicas=2",), lines=2),
    ("scale deployment served --replicas=1",),
    Until("get deployment served -o jsonpath={.status.availableReplicas}.{.status.replicas}", r"^1\.1$"),
    ("create pdb typed --selector=app=other --min-available=1",),
    ("apply -f -", GUARD),
    Until("get pdb guard -o jsonpath={.status.currentHealthy}", "^1$"),
    ("get pdb guard",),
    ("drain NODE --ignore-daemonsets --pod-selector=app=served --timeout=4s",),
    ("get nodes --no-headers",),
    ("delete pdb guard",),
    ("drain NODE --ignore-daemonsets --pod-selector=app=served --dry-run=server",),
    ("drain NODE --ignore-daemonsets --delete-emptydir-data --pod-selector=app=served --timeout=60s",),
    Until("get pods -l app=served -o jsonpath={.items[*].status.phase}", "^Pending$"),
    ("get pods -l app=served",),
    ("uncordon NODE",),
    ("uncordon NODE",),
    ("rollout status deployment/served --timeout=60s",),
    ("drain NODE --pod-selector=app=served --disable-eviction --timeout=60s",),
    ("uncordon NODE",),
    ("rollout status deployment/served --timeout=60s",),
    ("run bare --image=inferd/engine -- --model embedded://demo-chat",),
    Until("get pod bare -o jsonpath={.status.phase}", "^Running$"),
    ("debug bare --image=busybox",),
    ("drain NODE --pod-selector=run=bare",),
    ("drain NODE --pod-selector=run=bare --force --timeout=60s",),
    ("drain absent",),
    ("uncordon NODE",),
    ("cordon NODE --dry-run=server",),
    ("taint node NODE only=mine:NoExecute",),
    Until("get pods -l app=served -o jsonpath={.items[*].status.phase}", "^Pending$"),
    ("taint node NODE only=mine:NoExecute",),
    ("taint nodes --all only-",),
    ("taint node NODE only-",),
    ("rollout status deployment/served --timeout=60s",),
    ("delete deployment served",),

    # What there is.
    ("api-resources --api-group=apps",),
    ("api-resources --api-group=apps -o wide",),
    ("api-resources --api-group=serving.kserve.io --namespaced=true -o name",),
    ("api-resources --verbs=create --api-group=authorization.k8s.io --no-headers",),
    ("create token sa",),
    ("get --raw /healthz?verbose",),
    ("get sc",),
    ("api-resources",),
    ("api-versions",),

    # A replica lets nobody in, and says what it uses.
    ("run replica --image=inferd/engine -- --model embedded://demo-chat",),
    Until("get pod replica -o jsonpath={.status.phase}", "^Running$"),
    ("exec replica -- ls",),
    ("attach replica",),
    ("cp replica:/etc/hostname copied",),
    Meanwhile("port-forward pod/replica :8080 --address 127.0.0.1", (), lines=1),
    Until("top pod replica", "replica"),
    ("top pod replica",),
    ("top pod replica --containers",),
    ("top pod -l run=replica --no-headers",),
    ("top pod absent",),
    Until("top node", "NODE"),
    ("top node",),
    ("delete pod replica",),
]

OWNERSHIP = re.compile(r"[+-] *(- )?(apiVersion|fieldsType|fieldsV1|f:[\w.]+|\.|manager|operation|time): ?")

# What a run says otherwise each time.
CHANGING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]+ [+-]\d{4}", "<time>"),
    (r'(resourceVersion"?: "?)\d+', r"\1<revision>"),
    (r"(?<=\s)(\d+[dhms]){1,2}(?=\s|$)", "<age>"),
    (r"127\.\d+\.\d+\.\d+(:\d+)?", "<address>"),
    (r"10\.\d+\.\d+\.\d+", "<address>"),
    (r"\+inferd\.[\w.+-]+", "+inferd"),
    (r"(web|typed|later|served)-[0-9a-z]{8,10}(-[0-9a-z]{5})?\b", r"\1-<hash>"),
    (r"/tmp/(LIVE|MERGED)-\d+", r"<\1>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "<time>"),
    (r"\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", "<token>"),
    (r"^[IEW]\d{4} [\d:.]+ +\d+ (\w+\.go):\d+\]", r"<log> \1]"),
    (r"(is waiting to start: ).*", r"\1<reason>"),
    (r"^Warning: spec.*\n", ""),
    (r"^Waiting for deployment .*\n", ""),  # as long as it takes
    (r"debugger-[0-9a-z]{5}\b", "debugger-<random>"),
    (r"(?<=\s)\d+Mi(?=\s|$)", "<memory>"),
    (r"(?<=\s)\d+%(?=\s\s|\s*$)", "<share>"),
    (r"[ \t]+$", ""),
]


def gather():
    """Version, as 1.32, to path: what PATH has, and what lies beside the one that it finds first."""
    folders = [pathlib.Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    first = shutil.which("kubectl")
    if first:
        folders.append(pathlib.Path(first).resolve().parent)
    folders.append(ROOT / "build" / "kubectl-debian" / "usr" / "bin")
    found = {}
    for folder in folders:
        for path in sorted(folder.glob("kubectl.1.*")) + [folder / "kubectl"]:
            if not os.access(path, os.X_OK):
                continue
            said = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True)
            version = re.search(r'"gitVersion": "v(1\.\d+)', said.stdout)
            if version:
                found.setdefault(version[1], path)
    return dict(sorted(found.items(), key=lambda item: int(item[0][2:])))


def normal(text, d):
    text = text.replace(str(d.home), "<home>")
    text = re.sub(rf"(?<![\w-]){re.escape(socket.gethostname())}(?![\w-])", "<node>", text)
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text, flags=re.M)
    text = re.sub(r"^Events:.*", "Events: ...\n", text, flags=re.M | re.S)
    text = re.sub(r" {2,}", "  ", text)  # columns are as wide as what was replaced
    return "".join(line for line in text.splitlines(True) if not line.startswith("<log>"))


def changes_of(diff):
    """What a diff takes and adds, without who owns which field since when: kubectl 1.20 shows that, too."""
    kept = [line for line in diff.splitlines() if re.match(r"[+-]|diff ", line) and not OWNERSHIP.match(line)]
    return "\n".join(kept)


def title_of(number, command):
    return f"=== {number:03} kubectl {command}"


class Player:
    """One version of kubectl with a daemon of its own."""

    def __init__(self, kubectl, daemon):
        self.kubectl, self.daemon = kubectl, daemon
        editor = daemon.home / "editor"
        editor.write_text(EDITOR)
        editor.chmod(0o755)
        self.kustomization = daemon.home / "kustomization"
        self.kustomization.mkdir()
        (self.kustomization / "kustomization.yaml").write_text(KUSTOMIZATION)
        (self.kustomization / "held.yaml").write_text(HELD)
        self.environment = {**daemon.environment(), "KUBE_EDITOR": str(editor), "LC_ALL": "C"}
        self.node = daemon.get("nodes")["items"][0]["metadata"]["name"]

    def words(self, command):
        command = command.replace("NODE", self.node).replace("KUSTOMIZATION", str(self.kustomization))
        return [str(self.kubectl), *split(command)]

    def run(self, command, stdin=""):
        return subprocess.run(self.words(command), env=self.environment, capture_output=True, text=True,
                              input=stdin, timeout=2 * PATIENCE)

    def until(self, step):
        def fits():
            done = self.run(step.command)
            return done.returncode == 0 and re.search(step.pattern.replace("NODE", self.node), done.stdout)
        wait_for(f"{step.command} to say {step.pattern}", fits)

    def open_watches(self):
        text = self.run("get --raw /metrics").stdout
        return int(re.search(r"^apiserver_longrunning_requests (\d+)", text, flags=re.M)[1])

    def do_other(self, command):
        """What kubectl 1.20 cannot do is done on the wire: STATUS RESOURCE/NAME STATUS."""
        if not command.startswith("STATUS "):
            assert self.run(command).returncode == 0, command
            return
        _, target, status = command.split(" ", 2)
        path = f"/apis/apps/v1/namespaces/default/{target}/status"
        api = Api(self.daemon)
        answer = api.call("PATCH", path, '{"status":' + status + "}", "application/merge-patch+json")
        assert answer[0] == 200, answer

    def meanwhile(self, step):
        """Gives (exit status or None, output): the output's lines may come late, not in another order."""
        before, output, enough = self.open_watches(), [], threading.Event()
        process = subprocess.Popen(self.words(step.command), env=self.environment, text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def read():
            for line in process.stdout:
                output.append(line)
                if len(output) == step.lines:
                    enough.set()
            enough.set()  # it has ended
        reader = threading.Thread(target=read)
        reader.start()
        try:
            if step.others:
                wait_for(f"{step.command} to begin", lambda: self.open_watches() > before or process.poll() is not None)
            for other in step.others:
                self.do_other(other)
            assert enough.wait(2 * PATIENCE), f"{step.command}: {output}"
            code = None if step.lines and process.poll() is None else process.wait(2 * PATIENCE)
        finally:
            process.terminate()
            reader.join()
            process.wait()
            process.stdout.close()
        return code, "".join(output)

    def play(self):
        """Gives the commands' titles, and what they answered."""
        answers = {}
        for number, step in enumerate(COMMANDS):
            if isinstance(step, Until):
                self.until(step)
                continue
            if isinstance(step, Meanwhile):
                command, (code, said) = step.command, self.meanwhile(step)
            else:
                command, done = step[0], self.run(*step)
                code, said = done.returncode, done.stdout + done.stderr
            said = normal(said, self.daemon).rstrip()
            if command.startswith("diff "):
                said = changes_of(said)
            ended = "goes on" if code is None else f"exit {code}"
            answers[title_of(number, command)] = f"{ended}\n{said}\n"
        return answers


def play(program, kubectl):
    with Daemon(program) as daemon:
        return Player(kubectl, daemon).play()


def split(text):
    """Words; "-l app in (web),!none" and JSON are one word each."""
    words, rest = [], text
    while rest:
        m = re.match(r"(-l app in \S+|\S+) ?", rest)
        word, rest = m[1], rest[m.end():]
        words += ["-l", word[3:]] if word.startswith("-l app in") else [word]
    return words


def read(path):
    if not path.exists():
        return {}
    parts = re.split(r"^(=== .*)\n", path.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def write(path, answers):
    path.write_text("".join(f"{title}\n{answer}" for title, answer in answers.items()))


def compare(version, answers):
    """The differences from what was recorded, as text."""
    wanted = {**read(RECORDINGS / "common.txt"), **read(RECORDINGS / f"{version}.txt")}
    lines = []
    for title, answer in answers.items():
        if answer != wanted.get(title):
            want = wanted.get(title, "not recorded\n")
            lines += [f"kubectl {version}: {title}"]
            lines += list(difflib.unified_diff(want.splitlines(), answer.splitlines(), "recorded", "answered", lineterm=""))
    return "\n".join(lines)


def record(played):
    RECORDINGS.mkdir(exist_ok=True)
    if COMMON in played:
        write(RECORDINGS / "common.txt", played[COMMON])
    common = read(RECORDINGS / "common.txt")
    for version, answers in played.items():
        if version != COMMON:
            write(RECORDINGS / f"{version}.txt", {t: a for t, a in answers.items() if a != common.get(t)})


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--only", help="one version")
    options.add_argument("--record", action="store_true")
    options = options.parse_args()
    kubectls = gather()
    if options.only:
        kubectls = {v: p for v, p in kubectls.items() if v == options.only}
    if not options.record:
        for version in [v for v in kubectls if v != COMMON and not (RECORDINGS / f"{v}.txt").exists()]:
            print(f"SKIPPED: kubectl {version} has no recording")
            del kubectls[version]
    if not kubectls:
        skip("no kubectl of a recorded version" + (f" ({options.only})" if options.only else ""))
    program = pathlib.Path(options.program).resolve()
    with concurrent.futures.ThreadPoolExecutor(VERSIONS_AT_ONCE) as pool:
        played = dict(zip(kubectls, pool.map(lambda p: play(program, p), kubectls.values())))
    if options.record:
        return record(played)
    failed = 0
    for version, answers in played.items():
        difference = compare(version, answers)
        failed += bool(difference)
        print(f"kubectl {version}: {len(answers)} commands, {'differs' if difference else 'as recorded'}")
        if difference:
            print(difference)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
