#!/usr/bin/env python3
"""Prometheus' kubernetes_sd finds its targets through the API: every role, what changes while it looks, and a scrape of the
API server that it found, with a ServiceAccount's token and no more rights than Prometheus' manual asks for.

Debian builds its Prometheus without kubernetes_sd; VictoriaMetrics, in Debian too, reads the same configuration, finds
the same labels, and has a client of its own for the API."""
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.request

from harness import PATIENCE, ROOT, Daemon, run_tests, skip, wait_for

ROLES = ("node", "pod", "service", "endpoints", "endpointslice", "ingress")
ACCESS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus}
rules:
- {apiGroups: [""], resources: [nodes, nodes/metrics, services, endpoints, pods], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
- {nonResourceURLs: [/metrics], verbs: [get]}
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}, annotations: {prometheus.io/scrape: "true"}}
    spec:
      containers:
      - {name: c, image: inferd/engine, args: [--model, "embedded://demo-chat"], ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"""
API_SERVERS = """
  - job_name: apiservers
    scheme: https
    tls_config: {ca_file: CA}
    authorization: {credentials_file: TOKEN}
    kubernetes_sd_configs: [SD]
    relabel_configs:
    - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_service_name, __meta_kubernetes_endpoint_port_name]
      action: keep
      regex: default;kubernetes;https
"""


def program_path():
    aside = ROOT / "build" / "victoria-metrics-debian" / "usr" / "bin" / "victoria-metrics"
    path = shutil.which("victoria-metrics") or (str(aside) if aside.exists() else None)
    return path or skip("Debian's victoria-metrics is absent")


def configure(d):
    """Writes the configuration, with the rights and the token of a ServiceAccount; gives its path."""
    d.apply(ACCESS)
    d.kubectl("create", "serviceaccount", "prometheus")
    d.kubectl("create", "clusterrolebinding", "prometheus", "--clusterrole=prometheus",
              "--serviceaccount=default:prometheus")
    token, ca = d.home / "token", d.home / "ca.crt"
    token.write_text(d.kubectl("create", "token", "prometheus").stdout.strip())
    ca.write_text(d.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"])
    sd = (f'{{role: ROLE, api_server: "{d.kube}", tls_config: {{ca_file: "{ca}"}}, '
          f'authorization: {{credentials_file: "{token}"}}}}')
    # Pods share the machine's address: what else is known of them keeps their targets apart.
    keep = "relabel_configs: [{action: labelmap, regex: __meta_kubernetes_(.+)}]"
    jobs = "".join(f"  - {{job_name: {role}, {keep}, kubernetes_sd_configs: [{sd.replace('ROLE', role)}]}}\n"
                   for role in ROLES)
    scraped = API_SERVERS.replace("CA", str(ca)).replace("TOKEN", str(token)).replace("SD", sd.replace("ROLE", "endpoints"))
    path = d.home / "prometheus.yml"
    path.write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n" + jobs + scraped)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def prometheus(d):
    """One that runs; gives its URL."""
    log, url = d.home / "prometheus.log", f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [program_path(), f"-promscrape.config={configure(d)}", f"-storageDataPath={d.home / 'tsdb'}",
         f"-httpListenAddr={url}", "-promscrape.kubernetesSDCheckInterval=1s", "-promscrape.suppressScrapeErrors",
         "-search.latencyOffset=0s", "-memory.allowedBytes=64MB"], stdout=subprocess.DEVNULL, stderr=log.open("w"), stdin=subprocess.DEVNULL)

    def listens():
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://{url}/health", timeout=PATIENCE).status == 200
    try:
        wait_for("Prometheus to listen", listens)
        yield f"http://{url}"
        complaints = [line for line in log.read_text().splitlines() if re.search(r"\t(error|warn)\t.*promscrape", line)]
        assert not complaints, "\n".join(complaints)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


class Targets:
    def __init__(self, url):
        self.url = url

    def of(self, role):
        """What was found, as [{label: value}] without the prefix __meta_kubernetes_."""
        with urllib.request.urlopen(self.url + "/api/v1/targets?state=active", timeout=PATIENCE) as answer:
            active = json.load(answer)["data"]["activeTargets"]
        return [{k.removeprefix("__meta_kubernetes_"): v for k, v in t["discoveredLabels"].items()} | {"health": t["health"]}
                for t in active if t["scrapePool"] == role]

    def query(self, expression):
        """The value of the only series; 0: none yet."""
        with urllib.request.urlopen(f"{self.url}/api/v1/query?query={expression}", timeout=PATIENCE) as answer:
            found = json.load(answer)["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def wait(self, role, fits, what):
        def look():
            found = self.of(role)
            return fits(found) and (found,)
        return wait_for(f"targets of role {role}: {what}", look)[0]


def one(found, **labels):
    fits = [t for t in found if all(t.get(k) == v for k, v in labels.items())]
    assert len(fits) == 1, (labels, found)
    return fits[0]


def every_role_finds_its_targets(program):
    program_path()
    with Daemon(program) as d:
        d.apply(WEB)
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
        node_name = socket.gethostname().lower()
        with prometheus(d) as url:
            targets = Targets(url)
            node, = targets.wait("node", len, "one node")
            assert node["node_name"] == node_name and node["__address__"].startswith(node["node_address_InternalIP"] + ":")
            assert node["node_label_kubernetes_io_hostname"] == node_name
            pod, = targets.wait("pod", lambda found: found and found[0]["pod_ready"] == "true", "one that is ready")
            assert pod["pod_phase"] == "Running" and pod["pod_controller_kind"] == "ReplicaSet"
            assert pod["pod_label_tier"] == "front" and pod["pod_annotation_prometheus_io_scrape"] == "true"
            assert pod["__address__"] == pod["pod_ip"] + ":8080" and pod["pod_container_port_name"] == "http"
            assert pod["pod_node_name"] == node_name and pod["pod_uid"]
            found = targets.wait("service", lambda found: len(found) == 2, "kubernetes and web")
            assert one(found, service_name="web")["__address__"] == "web.default.svc:80"
            assert one(found, service_name="kubernetes")["service_port_name"] == "https"
            for role, prefix in (("endpoints", "endpoint"), ("endpointslice", "endpointslice_endpoint_conditions")):
                found = targets.wait(role, lambda found: len(found) == 2, "kubernetes' and web's")
                behind = one(found, service_name="web")
                assert behind["pod_name"] == pod["pod_name"] and behind[prefix + "_ready"] == "true", behind
                assert behind["__address__"] == pod["__address__"]
                assert "127.0.0.1:" + d.kube.rpartition(":")[2] == one(found, service_name="kubernetes")["__address__"]
            assert targets.of("ingress") == []
            # It asks the API server that it found, over TLS that it verifies.
            server, = targets.wait("apiservers", lambda found: found and found[0]["health"] == "up", "the API server, up")
            wait_for("the count of its own watches", lambda: targets.query("apiserver_longrunning_requests") >= len(ROLES) - 1)

            # What changes is seen without being asked for.
            d.kubectl("scale", "deployment/web", "--replicas=2")
            ready = targets.wait("pod", lambda found: [t["pod_ready"] for t in found] == ["true"] * 2, "two that are ready")
            assert len({t["pod_uid"] for t in ready}) == 2
            targets.wait("endpoints", lambda found: len(found) == 3, "two of web")
            d.kubectl("label", "service/web", "team=blue")
            targets.wait("service", lambda found: "blue" in [t.get("service_label_team") for t in found], "the new label")
            d.kubectl("delete", "service/web")
            targets.wait("service", lambda found: len(found) == 1, "kubernetes alone")
            for role in ("endpoints", "endpointslice"):
                targets.wait(role, lambda found: len(found) == 1, "kubernetes' alone")
            d.kubectl("delete", "deployment/web")
            targets.wait("pod", lambda found: not found, "none")


if __name__ == "__main__":
    run_tests(every_role_finds_its_targets)
