#!/usr/bin/python3
"""Debian's kubernetes client for Python against the daemon: its models raise on what a list lacks, KServe's SDK is made of
its custom objects and watches, and it execs over WebSocket. KUBECONFIG=... /usr/bin/python3 client.py [--host-pods]"""
import json
import sys

import kubernetes
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

config.load_kube_config()
core, apps, custom = client.CoreV1Api(), client.AppsV1Api(), client.CustomObjectsApi()
NAMESPACE = "default"
ISVC = {"group": "serving.kserve.io", "version": "v1beta1", "namespace": NAMESPACE, "plural": "inferenceservices"}
PATIENCE = 60


def refused(status, call, *arguments, **keywords):
    """The Status with which the call is refused."""
    try:
        call(*arguments, **keywords)
    except ApiException as error:
        assert error.status == status, (error.status, error.body)
        return json.loads(error.body)
    raise AssertionError(f"{call.__name__}: accepted")


def isvc(**predictor):
    model = {"modelFormat": {"name": "gguf"}, "storageUri": "embedded://demo-chat"}
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "sdk"},
            "spec": {"predictor": {"minReplicas": 1, "model": model, **predictor}}}


def every_list_fits_its_model():
    """Called while a service runs, so that pods, events and endpoints are among them."""
    apis = {
        core: ["namespace", "node", "pod_for_all_namespaces", "service_for_all_namespaces", "config_map_for_all_namespaces",
               "secret_for_all_namespaces", "event_for_all_namespaces", "endpoints_for_all_namespaces",
               "service_account_for_all_namespaces", "limit_range_for_all_namespaces", "persistent_volume",
               "persistent_volume_claim_for_all_namespaces", "resource_quota_for_all_namespaces"],
        apps: ["deployment_for_all_namespaces", "replica_set_for_all_namespaces", "stateful_set_for_all_namespaces",
               "daemon_set_for_all_namespaces"],
        client.BatchV1Api(): ["job_for_all_namespaces", "cron_job_for_all_namespaces"],
        client.AutoscalingV1Api(): ["horizontal_pod_autoscaler_for_all_namespaces"],
        client.CoordinationV1Api(): ["lease_for_all_namespaces"],
        client.DiscoveryV1Api(): ["endpoint_slice_for_all_namespaces"],
        client.EventsV1Api(): ["event_for_all_namespaces"],
        client.NetworkingV1Api(): ["ingress_for_all_namespaces", "network_policy_for_all_namespaces", "ingress_class"],
        client.PolicyV1Api(): ["pod_disruption_budget_for_all_namespaces"],
        client.RbacAuthorizationV1Api(): ["cluster_role", "cluster_role_binding", "role_for_all_namespaces"],
        client.SchedulingV1Api(): ["priority_class"],
        client.StorageV1Api(): ["storage_class"],
        client.ApiextensionsV1Api(): ["custom_resource_definition"],
        client.AdmissionregistrationV1Api(): ["validating_webhook_configuration", "mutating_webhook_configuration"],
    }
    filled = 0
    for api, lists in apis.items():
        for name in lists:
            filled += bool(getattr(api, "list_" + name)().items)
    assert filled >= 15, filled
    assert client.VersionApi().get_code().git_version.startswith("v1.")
    groups = {g.name for g in client.ApisApi().get_api_versions().groups}
    assert {"apps", "serving.kserve.io", "metrics.k8s.io"} <= groups, groups
    assert {r.name for r in apps.get_api_resources().resources} >= {"deployments", "deployments/scale"}


def forwarded(pod, path):
    """What a pod's port 8080 answers, parsed, through a forwarded port."""
    line = portforward(core.connect_get_namespaced_pod_portforward, pod, NAMESPACE, ports="8080").socket(8080)
    line.settimeout(PATIENCE)
    line.sendall(f"GET {path} HTTP/1.1\r\nHost: {pod}\r\nConnection: close\r\n\r\n".encode())
    text = b""
    while part := line.recv(65536):
        text += part
    head, _, body = text.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], head
    return json.loads(body)


def kserve_sdk():
    """KServeClient.create, wait_isvc_ready, patch, replace, delete, set_credentials."""
    missing = refused(404, core.read_namespaced_config_map, "inferenceservice-config", "kserve")
    assert missing["reason"] == "NotFound"
    secret = core.create_namespaced_secret(NAMESPACE, client.V1Secret(
        metadata=client.V1ObjectMeta(generate_name="kserve-secret-"), string_data={"key": "value"}))
    assert secret.metadata.name.startswith("kserve-secret-") and secret.data == {"key": "dmFsdWU="}
    core.create_namespaced_service_account(NAMESPACE, client.V1ServiceAccount(
        metadata=client.V1ObjectMeta(name="kserve-service-credentials"), secrets=[client.V1ObjectReference(name="first")]))
    account = core.patch_namespaced_service_account("kserve-service-credentials", NAMESPACE, client.V1ServiceAccount(
        secrets=[client.V1ObjectReference(name=secret.metadata.name)]))
    assert {s.name for s in account.secrets} == {"first", secret.metadata.name}, "a patch of a model merges by name"

    custom.create_namespaced_custom_object(**ISVC, body=isvc())
    for event in watch.Watch().stream(custom.list_namespaced_custom_object, **ISVC, timeout_seconds=PATIENCE):
        o = event["object"]
        ready = [c["status"] for c in o.get("status", {}).get("conditions", []) if c["type"] == "Ready"]
        if ready == ["True"] and o["status"]["observedGeneration"] == o["metadata"]["generation"]:
            break
    else:
        raise AssertionError("not ready")
    assert o["status"]["url"].startswith("http")
    traffic, = o["status"]["components"]["predictor"]["traffic"]
    assert traffic["latestRevision"] is True and traffic["percent"] == 100
    patched = custom.patch_namespaced_custom_object(**ISVC, name="sdk", body=isvc(maxReplicas=2))
    assert patched["spec"]["predictor"]["maxReplicas"] == 2
    unversioned = isvc(maxReplicas=3)
    assert "resourceVersion" in refused(422, custom.replace_namespaced_custom_object, **ISVC, name="sdk",
                                        body=unversioned)["message"]
    live = custom.get_namespaced_custom_object(**ISVC, name="sdk")
    unversioned["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
    # The controller may have written its status in between: the SDK reads again.
    for _ in range(50):
        try:
            replaced = custom.replace_namespaced_custom_object(**ISVC, name="sdk", body=unversioned)
            break
        except ApiException as error:
            assert error.status == 409, error.body
            live = custom.get_namespaced_custom_object(**ISVC, name="sdk")
            unversioned["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
    assert replaced["spec"]["predictor"]["maxReplicas"] == 3
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="serving.kserve.io/inferenceservice=sdk").items
    log = core.read_namespaced_pod_log(pods[0].metadata.name, NAMESPACE, container="kserve-container", tail_lines=5)
    assert "replica is ready" in log
    assert forwarded(pods[0].metadata.name, "/v1/models")["data"][0]["id"] == "sdk"
    usage = custom.list_namespaced_custom_object("metrics.k8s.io", "v1beta1", NAMESPACE, "pods")
    assert usage["kind"] == "PodMetricsList"
    every_list_fits_its_model()
    revision = custom.list_namespaced_custom_object(**ISVC)["metadata"]["resourceVersion"]
    custom.delete_namespaced_custom_object(**ISVC, name="sdk")
    seen = watch.Watch()
    for event in seen.stream(custom.list_namespaced_custom_object, **ISVC, resource_version=revision, timeout_seconds=PATIENCE):
        if event["type"] == "DELETED":
            break
    assert int(seen.resource_version) > int(revision)
    refused(404, custom.get_namespaced_custom_object, **ISVC, name="sdk")


def typed_objects_and_patches():
    template = {"metadata": {"labels": {"app": "py"}}, "spec": {"containers": [{"name": "c", "image": "inferd/engine"}]}}
    body = {"metadata": {"name": "py"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "py"}}, "template": template}}
    made = apps.create_namespaced_deployment(NAMESPACE, body)
    assert made.spec.strategy.rolling_update.max_surge == "25%" and made.metadata.creation_timestamp.tzinfo
    more = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "inferd/engine"}]}}}}
    merged = apps.patch_namespaced_deployment("py", NAMESPACE, more)
    assert sorted(c.name for c in merged.spec.template.spec.containers) == ["c", "side"]
    listed = apps.patch_namespaced_deployment("py", NAMESPACE, [{"op": "remove", "path": "/spec/template/spec/containers/0"}])
    assert len(listed.spec.template.spec.containers) == 1
    scale = apps.read_namespaced_deployment_scale("py", NAMESPACE)
    assert scale.spec.replicas == 0
    assert apps.patch_namespaced_deployment_scale("py", NAMESPACE, {"spec": {"replicas": 0}}).kind == "Scale"
    gone = apps.delete_namespaced_deployment("py", NAMESPACE, propagation_policy="Foreground")
    assert gone.status in ("Success", None) or gone.kind == "Deployment"
    stale = core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "stale"}})
    core.patch_namespaced_config_map("stale", NAMESPACE, {"data": {"a": "b"}})
    assert refused(409, core.replace_namespaced_config_map, "stale", NAMESPACE, stale)["reason"] == "Conflict"
    deleted = core.delete_namespaced_config_map("stale", NAMESPACE, body=client.V1DeleteOptions(grace_period_seconds=0))
    assert deleted.status == "Success"


def the_dynamic_client_and_files():
    d = dynamic.DynamicClient(client.ApiClient())
    maps = d.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(namespace=NAMESPACE, body={"metadata": {"name": "dyn"}, "data": {"a": "1"}})
    maps.patch(namespace=NAMESPACE, name="dyn", body={"data": {"b": "2"}}, content_type="application/merge-patch+json")
    assert dict(maps.get(namespace=NAMESPACE, name="dyn").data) == {"a": "1", "b": "2"}
    for event in maps.watch(namespace=NAMESPACE, field_selector="metadata.name=dyn", timeout=PATIENCE):
        assert event["type"] == "ADDED" and event["object"].metadata.name == "dyn"
        break
    maps.delete(namespace=NAMESPACE, name="dyn")
    services = d.resources.get(api_version="serving.kserve.io/v1beta1", kind="InferenceService")
    assert services.namespaced and services.get(namespace=NAMESPACE).kind == "InferenceServiceList"
    documents = [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "file"}},
                 {"apiVersion": "v1", "kind": "List", "items": [
                     {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "file"}}]}]
    for document in documents:
        utils.create_from_dict(client.ApiClient(), document, namespace=NAMESPACE)
    core.delete_namespaced_secret("file", NAMESPACE)
    core.delete_namespaced_config_map("file", NAMESPACE)


def reviews():
    authorization = client.AuthorizationV1Api()
    attributes = client.V1ResourceAttributes(verb="create", group="serving.kserve.io", resource="inferenceservices",
                                             namespace=NAMESPACE)
    asked = authorization.create_self_subject_access_review(client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)))
    assert asked.status.allowed is True
    rules = authorization.create_self_subject_rules_review(client.V1SelfSubjectRulesReview(
        spec=client.V1SelfSubjectRulesReviewSpec(namespace=NAMESPACE)))
    assert rules.status.incomplete is False and rules.status.resource_rules and rules.status.non_resource_rules
    token = core.create_namespaced_service_account_token("default", NAMESPACE, client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)))
    checked = client.AuthenticationV1Api().create_token_review(client.V1TokenReview(
        spec=client.V1TokenReviewSpec(token=token.status.token)))
    assert checked.status.authenticated and checked.status.user.username == "system:serviceaccount:default:default"


def a_pod_is_entered_and_its_log_followed():
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "main", "image": "host", "command": ["sh", "-c", "echo first; until [ -e go ]; do sleep 0.05; done; echo last"]}]}
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "py"}, "spec": spec})
    for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, field_selector="metadata.name=py",
                                      timeout_seconds=PATIENCE):
        if event["object"].status.phase == "Running":
            break
    lines = []
    for line in watch.Watch().stream(core.read_namespaced_pod_log, "py", NAMESPACE):
        lines.append(line)
        if line == "first":
            said = stream(core.connect_get_namespaced_pod_exec, "py", NAMESPACE, stdin=False, stdout=True, stderr=True,
                          tty=False, command=["sh", "-c", "touch go; echo done"])
            assert said == "done\n", said
    assert lines == ["first", "last"], lines
    core.delete_namespaced_pod("py", NAMESPACE)


def main():
    tests = [kserve_sdk, typed_objects_and_patches, the_dynamic_client_and_files, reviews]
    if "--host-pods" in sys.argv:
        tests.append(a_pod_is_entered_and_its_log_followed)
    for test in tests:
        test()
        print(f"ok {test.__name__} (kubernetes-python {kubernetes.__version__})", flush=True)


main()
