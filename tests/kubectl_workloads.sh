#!/usr/bin/env bash
# Drives the real kubectl through what a cluster does by itself: rollouts, evictions, quotas,
# limits, priorities, autoscaler objects, services, namespaces, events. Use as kubectl_dialect.sh;
# it wants a server with controllers.
prefix=workloads
# shellcheck source=tests/kubectl_checks.sh
. "$(dirname "$0")/kubectl_checks.sh"

check create-namespace "namespace/$ns created" kubectl "${server[@]}" create namespace "$ns"

## Autoscalers: one stored object, two versions
hpa="/apis/autoscaling/v2/namespaces/$ns/horizontalpodautoscalers"
check hpa-target 'deployment.apps/scaled created' k create deployment scaled --image=i --replicas=0
check autoscale 'horizontalpodautoscaler.autoscaling/scaled autoscaled' k autoscale deployment scaled --min=2 --max=4 --cpu-percent=60
check hpa-table 'scaled +Deployment/scaled +cpu: <unknown>/60% +2 +4 +0' k get hpa
check hpa-describe 'ScalingActive +False +NotActedUpon' k describe hpa scaled
check hpa-v2 '"averageUtilization":60' k get --raw "$hpa/scaled"
check hpa-v1 '"targetCPUUtilizationPercentage":60' k get --raw "/apis/autoscaling/v1/namespaces/$ns/horizontalpodautoscalers/scaled"
check hpa-patch-v1 'patched' k patch hpa.v1.autoscaling scaled --type=merge -p '{"spec":{"targetCPUUtilizationPercentage":70}}'
check hpa-patched-v2 '"averageUtilization":70' k get --raw "$hpa/scaled"
check hpa-preferred '^autoscaling/v1$' k get hpa scaled -o 'jsonpath={.apiVersion}'
autoscaler() { # minReplicas, maxReplicas, metrics
    printf 'apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: many}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: scaled}, minReplicas: %s, maxReplicas: %s, metrics: %s}\n' "$@"
}
refuse hpa-order 'spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`' create_text "$(autoscaler 3 2 '[]')"
refuse hpa-metric 'spec.metrics\[0\].pods: Required value: must populate' create_text "$(autoscaler 1 2 '[{type: Pods}]')"
check hpa-warns 'Warning: spec: inferd keeps the object and does not scale by it yet' create_text "$(autoscaler 1 2 '[{type: Pods, pods: {metric: {name: qps}, target: {type: AverageValue, averageValue: "5"}}}]')"
check hpa-annotation '"metricName\\":\\"qps\\"' k get --raw "/apis/autoscaling/v1/namespaces/$ns/horizontalpodautoscalers/many"
check hpa-annotate-v1 'annotated' k annotate hpa many seen=1
check hpa-kept '"metrics":\[\{.*"averageValue":"5"' k get --raw "$hpa/many"

## Kinds that clients look for and inferd does not run
check empty-lists 'No resources found' k get statefulsets,daemonsets,jobs,cronjobs,replicationcontrollers,persistentvolumeclaims,ingresses,networkpolicies,controllerrevisions
check empty-volumes 'No resources found' k get persistentvolumes
refuse job 'inferd does not run jobs.batch: a Pod with restartPolicy' k create job j --image=i
refuse cronjob 'inferd does not run cronjobs.batch' k create cronjob c --image=i --schedule='* * * * *'
refuse ingress 'inferd does not run ingresses.networking.k8s.io: the gateway' k create ingress i --rule=a/=b:80
refuse stateful-set-gone 'statefulsets.apps "x" not found' k delete statefulset x
config() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {set: pruned}}\n' "$1"; }
check prune-first 'configmap/b created' apply_text "$(config a; echo ---; config b)" --prune -l set=pruned
check prune-rest 'configmap/b pruned' apply_text "$(config a)" --prune -l set=pruned
check get-all-autoscalers 'horizontalpodautoscaler.autoscaling/scaled' k get all

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
