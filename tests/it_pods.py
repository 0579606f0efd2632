#!/usr/bin/env python3
"""Any process as a pod, with the real kubectl: the image `host`, its user, its logs, its ends, its
rollouts; who may; and that nothing is left when the daemon is killed."""
import json
import os
import shutil

from harness import PATIENCE, run_tests, wait_for
from host_pods import container, daemon, logs, processes


def host_pod(name, command, restart="Always", **container):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 5,
                     "containers": [{"name": "main", "image": "host", "command": command, **container}]}}


def deployment(name, replicas, script):
    pod = host_pod(name, ["sh", "-c", script])
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]}}}


def phase(d, name):
    return d.get("pod", name)["status"].get("phase")


def a_command_runs_apart_from_the_daemon(program):
    secret = "the-daemons-own"
    os.environ["INFERD_TEST_SECRET"] = secret
    with daemon(program) as d:
        d.kubectl("create", "configmap", "settings", "--from-literal=color=blue")
        d.kubectl("create", "secret", "generic", "safe", "--from-literal=word=open sesame")
        script = ('id -u; id -G; pwd; echo "$COLOR $WORD $NODE $1"; env | sort; echo mine > file && cat file; '
                  'ls -ln file; touch $TMPDIR/x; cat "$ADMIN" || echo refused; grep NoNewPrivs /proc/self/status; '
                  'ls /proc/self/fd; echo aside >&2')
        d.apply(host_pod("apart", ["sh", "-c", script], restart="Never", args=["zero", "$(COLOR)-arg"], env=[
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "safe", "key": "word"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ADMIN", "value": str(d.kubeconfig)}]))
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/apart", f"--timeout={PATIENCE}s")
        text = logs(d, "apart")
        lines = text.splitlines()
        user = int(lines[0])
        assert 70000 <= user <= 79999 and lines[1] == lines[0], lines[:2]
        node = d.get("nodes")["items"][0]["metadata"]["name"]
        assert lines[3] == f"blue open sesame {node} blue-arg", lines[3]
        assert "mine" in lines and "refused" in lines and "aside" in lines, text
        assert secret not in text and "LD_LIBRARY_PATH" not in text, text
        assert "NoNewPrivs:\t1" in text, text
        open_files = text[text.index("NoNewPrivs"):].split()
        assert [f for f in open_files if f.isdigit() and int(f) > 3] == [], open_files
        assert logs(d, "apart", "-c", "main", "--limit-bytes=4") == text[:4]
        d.kubectl("delete", "pod", "apart")
        wait_for("the home to go", lambda: not list((d.home / (d.data.name + "-pods")).iterdir()))


def ends_are_told_and_policies_kept(program):
    with daemon(program) as d:
        d.apply(host_pod("fails", ["sh", "-c", "echo last words; exit 7"], restart="Never"))
        d.apply(host_pod("falls", ["sh", "-c", "echo run; exit 3"], restart="OnFailure"))
        d.apply(host_pod("missing", ["no-such-program"]))
        d.apply(host_pod("outside", ["true"], securityContext={"runAsUser": 0}))
        d.apply(host_pod("named", ["sh", "-c", "id -u"], restart="Never", securityContext={"runAsUser": 70123}))
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/fails", f"--timeout={PATIENCE}s")
        ended = d.get("pod", "fails")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 7 and ended["reason"] == "Error" and "last words" in ended["message"], ended

        def crash_loop():
            status = d.get("pod", "falls")["status"]["containerStatuses"][0]
            return status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" and status
        status = wait_for("CrashLoopBackOff", crash_loop)
        assert status["restartCount"] >= 1 and status["lastState"]["terminated"]["exitCode"] == 3, status
        assert logs(d, "falls", "--previous").strip() == "run"

        def waiting(name):
            status = d.get("pod", name)["status"].get("containerStatuses", [{}])[0]
            return status.get("state", {}).get("waiting", {}).get("message")
        assert "start no-such-program" in wait_for("the missing program", lambda: waiting("missing"))
        assert "runAsUser: 0 is not one of" in wait_for("the refusal", lambda: waiting("outside"))
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/named", f"--timeout={PATIENCE}s")
        assert logs(d, "named").strip() == "70123"


def a_deployment_of_processes_rolls(program):
    with daemon(program) as d:
        d.apply(deployment("web", 2, "echo one; exec sleep 1000"))
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
        d.kubectl("scale", "deployment/web", "--replicas=3")
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
        assert logs(d, "deployment/web").strip() == "one"
        d.apply(deployment("web", 2, "echo two; exec sleep 1000"))
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
        wait_for("the old pods to go", lambda: len(d.get("pods", "-l", "app=web")["items"]) == 2)
        assert logs(d, "-l", "app=web", "--tail=-1").split() == ["two", "two"]
        d.kubectl("rollout", "undo", "deployment/web")
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")


def only_who_may_runs_processes(program):
    with daemon(program) as d:
        d.kubectl("create", "role", "builder", "--verb=create,get,update,patch", "--resource=pods,deployments.apps")
        d.kubectl("create", "rolebinding", "builders", "--role=builder", "--user=bob")
        as_bob = ("--as=bob", "apply", "-f", "-")
        for manifest in (host_pod("mine", ["true"]), deployment("mine", 1, "true")):
            done = d.kubectl(*as_bob, stdin=json.dumps(manifest), check=False)
            assert done.returncode and 'cannot use resource "hostprocesses"' in done.stderr, done.stderr
        d.apply(deployment("given", 0, "true"))
        d.kubectl("--as=bob", "label", "deployment/given", "seen=yes")
        done = d.kubectl("--as=bob", "set", "env", "deployment/given", "A=b", check=False)
        assert done.returncode and "hostprocesses" in done.stderr, done.stderr
        d.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "runner"},
                 "rules": [{"apiGroups": ["inferd.io"], "resources": ["hostprocesses"], "verbs": ["use"]}]})
        d.kubectl("create", "rolebinding", "runners", "--role=runner", "--user=bob")
        d.kubectl(*as_bob, stdin=json.dumps(host_pod("mine", ["true"])))
    with daemon(program, "--host-processes", "false") as d:
        d.apply(host_pod("off", ["true"]))
        wait_for("the refusal", lambda: "hostProcesses" in json.dumps(d.get("pod", "off")["status"]))


def nothing_is_left_behind(program):
    with daemon(program) as d:
        marker = f"1{os.getpid()}"  # seconds that nobody else sleeps
        d.apply(host_pod("forks", ["sh", "-c", f"setsid sleep {marker} & sleep {marker} & sleep {marker} & wait"]))
        wait_for("three sleeps", lambda: len(processes(marker)) == 3)
        d.kubectl("delete", "pod", "forks", "--grace-period=1")
        wait_for("the sleeps to end with their pod", lambda: not processes(marker))
        d.apply(host_pod("stays", ["sh", "-c", f"setsid sleep {marker} & exec sleep {marker}"]))
        wait_for("two sleeps", lambda: len(processes(marker)) == 2)
        d.kill()
        wait_for("the sleeps of the killed daemon to end", lambda: not processes(marker))
        d.start()
        wait_for("the pod to run again", lambda: len(processes(marker)) == 2)
        d.stop()
        assert not processes(marker)


def what_went_while_nobody_looked_leaves_no_logs(program):
    with daemon(program) as d:
        d.apply(host_pod("stays", ["sh", "-c", "echo here; exec sleep 1000"]))
        wait_for("the log", lambda: logs(d, "stays", check=False) == "here\n")
        folders = lambda: sorted(p.name for p in (d.data / "logs").iterdir())
        (kept,) = folders()
        d.kill()
        # As a pod leaves it that is deleted (its name, another uid) when no daemon sees the end of its process.
        gone = d.data / "logs" / (kept[:-4] + "0000")
        shutil.copytree(d.data / "logs" / kept, gone)
        d.start()
        assert folders() == [kept], folders()


def a_pod_speaks_as_its_account(program):
    """kubectl in a pod, and what a client does that knows a cluster's environment only."""
    in_cluster = ("import json, os, ssl, urllib.request as u; d = os.environ['KUBERNETES_SERVICEACCOUNT_DIR']; "
                  "at = 'https://' + os.environ['KUBERNETES_SERVICE_HOST'] + ':' + os.environ['KUBERNETES_SERVICE_PORT']; "
                  "ns = open(d + '/namespace').read(); token = open(d + '/token').read(); "
                  "q = u.Request(at + '/api/v1/namespaces/' + ns + '/pods', headers={'Authorization': 'Bearer ' + token}); "
                  "a = u.urlopen(q, context=ssl.create_default_context(cafile=d + '/ca.crt')); print(len(json.load(a)['items']))")
    with daemon(program) as d:
        d.kubectl("create", "serviceaccount", "robot")
        d.kubectl("create", "rolebinding", "robot", "--clusterrole=view", "--serviceaccount=default:robot")
        script = ('kubectl get pods -o name && python3 -c "$IN_CLUSTER"; '
                  'echo x > $KUBERNETES_SERVICEACCOUNT_DIR/token || echo cannot change; '
                  'echo $(cat $KUBERNETES_SERVICEACCOUNT_DIR/token); exec sleep 1000')
        speaks = host_pod("speaks", ["sh", "-c", script], env=[{"name": "IN_CLUSTER", "value": in_cluster}])
        speaks["spec"]["serviceAccountName"] = "robot"
        d.apply(speaks)
        text = wait_for("what it says", lambda: "eyJ" in logs(d, "speaks", check=False) and logs(d, "speaks"))
        lines = text.splitlines()
        assert "pod/speaks" in lines and "1" in lines and "cannot change" in lines, text
        token = lines[-1]
        def review():
            answer = d.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}))
            return json.loads(answer.stdout)["status"].get("user")
        user = review()
        assert user["username"] == "system:serviceaccount:default:robot", user
        assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["speaks"], user
        other = host_pod("other", ["sh", "-c", f"cat {d.home}/data-pods/*/serviceaccount/token "
                                               f"{d.home}/data-pods/{d.get('pod', 'speaks')['metadata']['uid']}"
                                               "/serviceaccount/token || env"], restart="Never")
        other["spec"]["automountServiceAccountToken"] = False
        d.apply(other)
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/other", f"--timeout={PATIENCE}s")
        text = logs(d, "other")
        assert "Permission denied" in text and "eyJ" not in text and "KUBECONFIG" not in text, text
        assert "KUBERNETES_SERVICE_HOST=" in text, text
        d.kubectl("delete", "pod", "speaks")
        assert not review(), "a token outlives its pod"


def who_takes_more_memory_than_its_limit_is_killed(program):
    with daemon(program) as d:
        takes = "import time; held = b'x' * (%d << 20); time.sleep(1000)"
        limits = {"limits": {"memory": "64Mi"}}
        d.apply(host_pod("greedy", ["sh", "-c", f'python3 -c "{takes % 100}" & wait'], restart="Never", resources=limits))
        d.apply(host_pod("modest", ["python3", "-c", takes % 5], restart="Never", resources=limits))
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/greedy", f"--timeout={PATIENCE}s")
        ended = d.get("pod", "greedy")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), ended
        told = d.get("events", "--field-selector", "reason=OOMKilling")["items"]
        assert len(told) == 1 and "more than its limit of 65536Ki" in told[0]["message"], told
        assert d.kubectl("get", "pod", "greedy", "--no-headers").stdout.split()[2] == "OOMKilled"
        assert phase(d, "modest") == "Running"
        d.kubectl("delete", "pod", "modest", "--grace-period=1")


def containers_of_a_pod_run_in_their_order(program):
    with daemon(program) as d:
        o = host_pod("many", ["true"], restart="OnFailure")
        o["spec"]["initContainers"] = [
            container("first", 'echo one; test -e "$(dirname "$HOME")/first-1"'),  # the second run finds its folder
            container("beside", "echo beside; exec sleep 1000", restartPolicy="Always"),
            container("second", "echo two")]
        o["spec"]["containers"] = [container("quick", "echo quick; id -u"), container("slow", "id -u; read x < $0/go")]
        fifo = d.home / "go"
        os.mkfifo(fifo, 0o644)
        o["spec"]["containers"][1]["command"] = ["sh", "-c", f"id -u; echo slow; read x < {fifo}"]
        d.apply(o)

        def status():
            s = d.get("pod", "many")["status"]
            both = s.get("initContainerStatuses", []) + s.get("containerStatuses", [])
            return s, {c["name"]: c for c in both}

        def slow_runs():
            s, by_name = status()
            return ("running" in by_name.get("slow", {}).get("state", {}) and
                    "terminated" in by_name["quick"]["state"] and (s, by_name))
        s, by_name = wait_for("the main containers", slow_runs)
        assert s["phase"] == "Running", s
        assert by_name["first"]["restartCount"] == 1 and by_name["first"]["ready"], by_name["first"]
        assert by_name["beside"]["state"]["running"] and by_name["second"]["state"]["terminated"]["exitCode"] == 0
        assert logs(d, "many", "-c", "first") == "one\n" and logs(d, "many", "-c", "first", "--previous") == "one\n"
        everything = logs(d, "many", "--all-containers", "--prefix").splitlines()
        assert {line.split("]")[0].split("/")[-1] for line in everything} == set(by_name), everything
        users = {logs(d, "many", "-c", name).split()[-1 if name == "quick" else 0] for name in ("quick", "slow")}
        assert len(users) == 1, users
        done = d.kubectl("logs", "many", "-c", "nobody", check=False)
        assert done.returncode and "nobody is not valid for pod many" in done.stderr, done.stderr
        assert d.kubectl("get", "pod", "many", "--no-headers").stdout.split()[1] == "1/2"
        fifo.write_text("\n")
        d.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/many", f"--timeout={PATIENCE}s")
        s, by_name = status()
        assert "terminated" in by_name["beside"]["state"], by_name["beside"]
        d.kubectl("delete", "pod", "many")
        wait_for("the folder to go", lambda: not list((d.home / (d.data.name + "-pods")).iterdir()))


run_tests(a_command_runs_apart_from_the_daemon, ends_are_told_and_policies_kept, a_deployment_of_processes_rolls,
          only_who_may_runs_processes, nothing_is_left_behind, containers_of_a_pod_run_in_their_order, what_went_while_nobody_looked_leaves_no_logs,
          a_pod_speaks_as_its_account, who_takes_more_memory_than_its_limit_is_killed)
