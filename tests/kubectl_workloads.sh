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
check hpa-acts 'condition met' k wait horizontalpodautoscalers.v2.autoscaling/scaled --for=condition=AbleToScale --timeout=60s
check hpa-describe 'ScalingActive +False +ScalingDisabled +scaling is disabled since the replica count' k describe hpa scaled
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
check hpa-pods 'horizontalpodautoscaler.autoscaling/many created' create_text "$(autoscaler 1 2 '[{type: Pods, pods: {metric: {name: qps}, target: {type: AverageValue, averageValue: "5"}}}]')"
check hpa-annotation '"metricName\\":\\"qps\\"' k get --raw "/apis/autoscaling/v1/namespaces/$ns/horizontalpodautoscalers/many"
check hpa-annotate-v1 'annotated' k annotate hpa many seen=1
check hpa-kept '"metrics":\[\{.*"averageValue":"5"' k get --raw "$hpa/many"

## Kinds that clients look for and inferd does not run
check empty-lists 'No resources found' k get statefulsets,daemonsets,jobs,cronjobs,replicationcontrollers,persistentvolumeclaims,ingresses,networkpolicies,controllerrevisions
check empty-volumes 'No resources found' k get persistentvolumes,storageclasses,ingressclasses,csr
refuse job 'inferd does not run jobs.batch: a Pod with restartPolicy' k create job j --image=i
refuse cronjob 'inferd does not run cronjobs.batch' k create cronjob c --image=i --schedule='* * * * *'
refuse ingress 'inferd does not run ingresses.networking.k8s.io: the gateway' k create ingress i --rule=a/=b:80
refuse stateful-set-gone 'statefulsets.apps "x" not found' k delete statefulset x
config() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {set: pruned}}\n' "$1"; }
check prune-first 'configmap/b created' apply_text "$(config a; echo ---; config b)" --prune -l set=pruned
check prune-rest 'configmap/b pruned' apply_text "$(config a)" --prune -l set=pruned
check get-all-autoscalers 'horizontalpodautoscaler.autoscaling/scaled' k get all

## Quotas, limit ranges, priority classes
pod() { # name, further fields of the spec, of the container; no node has that label
    printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec:\n  nodeSelector: {example.com/none: "true"}\n  %s\n  containers: [{name: c, image: i%s}]\n' "$1" "$1" "${2-}" "${3+, $3}"
}
limit_range() {
    printf 'apiVersion: v1\nkind: LimitRange\nmetadata: {name: bounds}\nspec: {limits: [%s]}\n' "$1"
}
gpu='resources: {limits: {nvidia.com/gpu: 1, cpu: 1}}'
check quota-create 'resourcequota/q created' k create quota q --hard=pods=2,requests.nvidia.com/gpu=1,count/secrets=1
check quota-settles 'condition met' k wait --for=jsonpath='{.status.used.pods}'=0 quota/q --timeout=30s
check quota-status 'pods +0 +2' k describe quota q
check quota-table 'count/secrets: 0/1, pods: 0/2, requests.nvidia.com/gpu: 0/1' k get quota
refuse quota-unknown 'spec.hard\[bananas\]: Invalid value: "bananas": must be a standard resource for quota' k create quota bad --hard=bananas=1
refuse quota-negative 'spec.hard\[pods\]: Invalid value' k create quota bad --hard=pods=-1
check quota-pod 'pod/one created' create_text "$(pod one '' "$gpu")"
check quota-used 'requests.nvidia.com/gpu +1 +1' k describe quota q
refuse quota-gpu '^Error from server \(Forbidden\): error when creating "STDIN": pods "two" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1' create_text "$(pod two '' "$gpu")"
check quota-second 'pod/two created' create_text "$(pod two)"
refuse quota-pods 'pods "three" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2' create_text "$(pod three)"
refuse quota-dry-run 'exceeded quota: q' create_text "$(pod three)" --dry-run=server
check quota-secret 'secret/s created' k create secret generic s
refuse quota-secrets 'secrets "t" is forbidden: exceeded quota: q, requested: count/secrets=1' k create secret generic t
check quota-frees 'deleted' k delete pod one two --timeout=30s
check quota-third 'pod/three created' create_text "$(pod three)"
check quota-in-namespace 'pods +1 +2' kubectl "${server[@]}" describe namespace "$ns"
check quota-delete 'deleted' k delete quota q
check limits-create 'limitrange/bounds created' create_text "$(limit_range '{type: Container, min: {cpu: 100m}, max: {cpu: "2"}, defaultRequest: {cpu: 250m}}')"
check limits-describe 'Container +cpu +100m +2 +250m +2 +-' k describe limits bounds
refuse limits-order 'min value 3 is greater than max value 2' create_text "$(limit_range '{type: Container, min: {cpu: "3"}, max: {cpu: "2"}}' | sed 's/bounds/bad/')"
check limits-pod 'pod/four created' create_text "$(pod four)"
check limits-given '^250m 2$' k get pod four -o 'jsonpath={.spec.containers[0].resources.requests.cpu} {.spec.containers[0].resources.limits.cpu}'
check limits-told 'LimitRanger plugin set: cpu request for container c; cpu limit for container c' k describe pod four
refuse limits-max 'pods "five" is forbidden: maximum cpu usage per Container is 2, but limit is 3' create_text "$(pod five '' 'resources: {limits: {cpu: 3}}')"
check limits-delete 'deleted' k delete limits bounds
check class-system 'system-node-critical +2000001000 +false' k get priorityclasses
check class-create "created" k create priorityclass "high-$$" --value=1000 --description=x
check class-table "high-$$ +1000 +false" k get priorityclass "high-$$"
refuse class-reserved "names with 'system-' prefix are reserved" k create priorityclass system-mine --value=1
refuse class-too-high 'maximum allowed value of a user defined priority is 1000000000' k create priorityclass max --value=2000000000
refuse class-fixed 'value: Forbidden: may not be changed in an update' k patch priorityclass "high-$$" --type=merge -p '{"value":5}'
check class-pod 'created' create_text "$(pod six "priorityClassName: high-$$")"
check class-number '^1000 PreemptLowerPriority$' k get pod six -o 'jsonpath={.spec.priority} {.spec.preemptionPolicy}'
check class-kept 'pod/six replaced' k replace -f <(k get pod six -o json | sed '/"priority": /d')
refuse class-absent 'pods "seven" is forbidden: no PriorityClass with name absent was found' create_text "$(pod seven 'priorityClassName: absent')"
check class-delete 'deleted' k delete priorityclass "high-$$"
check lease 'lease.coordination.k8s.io/l created' create_text "$(printf 'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: l}\nspec: {holderIdentity: me, leaseDurationSeconds: 15}\n')"
check lease-table 'l +me' k get lease

rows() { k get "$@" -o name | wc -l; }

## Nodes: cordon, drain, taint, budgets
node=$(kubectl "${server[@]}" get nodes -o 'jsonpath={.items[0].metadata.name}')
n() { timeout 90 kubectl "${server[@]}" "$@"; }
engine() { # name, replicas, further fields of the spec
    cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1, labels: {app: $1}}
spec:
  replicas: $2
  ${3-}
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      containers: [{name: c, image: inferd/engine, args: [--model, "embedded://demo-chat"]}]
YAML
}
check node-lease "RenewTime:" n describe node "$node"
check web-create 'deployment.apps/web created' apply_text "$(engine web 2)"
check web-up 'successfully rolled out' k rollout status deployment/web --timeout=60s
check label-pods 'labeled' k label pod -l app=web seen=yes
check annotate-pods 'annotated' k annotate pod -l app=web seen=yes
check pods-account 'Service Account: +default' k describe pod -l app=web
check pods-labelled 'true +true' k get pods -l seen=yes -o 'jsonpath={.items[*].status.containerStatuses[0].ready}'
refuse debug 'pods/ephemeralcontainers: inferd adds no containers to a pod that is there' k debug "$(k get pod -l app=web -o 'jsonpath={.items[0].metadata.name}')" --image=busybox
check image-told 'Warning: spec.template.spec.containers\[0\].image: no runtime on this machine serves "nginx"' kubectl "${server[@]}" -n "$ns" create deployment nginx --image=nginx --replicas=0
check image-gone 'deleted' k delete deployment nginx
check pdb-create 'poddisruptionbudget.policy/web created' k create pdb web --selector=app=web --min-available=2
check pdb-status 'condition met' k wait --for=jsonpath='{.status.currentHealthy}'=2 pdb/web --timeout=60s
check pdb-table 'web +2 +N/A +0' k get pdb
check pdb-describe 'Min available: +2' k describe pdb web
refuse pdb-both 'minAvailable and maxUnavailable cannot be both set' k patch pdb web --type=merge -p '{"spec":{"maxUnavailable":1}}'
check cordon 'cordoned' n cordon "$node"
held=$(k get pods -l app=web -o 'jsonpath={.items[0].metadata.name}')
evict() { # as drain does, once
    printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"%s"}}' "$1" "$ns" |
        k create --raw "/api/v1/namespaces/$ns/pods/$held/eviction" -f -
}
refuse evict-held "TooManyRequests.*Cannot evict pod as it would violate the pod's disruption budget" evict "$held"
refuse evict-another 'name in URL does not match name in Eviction object' evict other
check cordoned 'SchedulingDisabled' n get node "$node"
soon cordon-event 'NodeNotSchedulable' n get events --field-selector "involvedObject.kind=Node,reason=NodeNotSchedulable"
check pdb-widen 'patched' k patch pdb web --type=merge -p '{"spec":{"minAvailable":0}}'
check pdb-allows 'condition met' k wait --for=jsonpath='{.status.disruptionsAllowed}'=2 pdb/web --timeout=60s
check drain-dry-run 'drained \(server dry run\)' n drain "$node" --pod-selector=app=web --dry-run=server
check drain-dry-run-left-them '2' k get deployment web -o 'jsonpath={.status.availableReplicas}'
check drain 'drained' n drain "$node" --pod-selector=app=web --timeout=60s
soon drained-pending '0/1 nodes are available: 1 node\(s\) were unschedulable' k get events --field-selector reason=FailedScheduling
check uncordon 'uncordoned' n uncordon "$node"
check web-again 'condition met' k wait --for=condition=Available deployment/web --timeout=60s
check drain-without-eviction 'drained' n drain "$node" --pod-selector=app=web --disable-eviction --timeout=60s
check uncordon-again 'uncordoned' n uncordon "$node"
check taint 'tainted' n taint node "$node" "test-$$=x:NoSchedule"
check taint-restarts 'deleted' k delete pod -l app=web --wait=false
soon untolerated 'had untolerated taint \{test-' k get events --field-selector reason=FailedScheduling
check untaint 'untainted' n taint node "$node" "test-$$-"
check web-back 'condition met' k wait --for=condition=Available deployment/web --timeout=60s

## Services
check api-service-gone 'deleted' n delete service kubernetes -n default
soon api-service-back 'kubernetes +ClusterIP +127.96.0.1' n get service kubernetes -n default
check api-service-found '^https$' n get endpointslices -n default -l kubernetes.io/service-name=kubernetes -o 'jsonpath={.items[0].ports[0].name}'
service_text() { # name, further fields of the spec
    printf 'apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {%s selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n' "$@"
}
check expose 'service/web exposed' k expose deployment web --port=80 --target-port=8080
check service-address '^127\.96\.[0-9.]+ 127\.96\.' k get service web -o 'jsonpath={.spec.clusterIP} {.spec.clusterIPs[0]}'
check service-table 'web +ClusterIP +127\.96\.' k get service
check service-replaced 'service/web replaced' k replace -f <(service_text web '')
check service-keeps-address '^127\.96\.[0-9.]+$' k get service web -o 'jsonpath={.spec.clusterIP}'
refuse service-fixed-address 'spec.clusterIP: Invalid value: .*field is immutable' k patch service web --type=merge -p '{"spec":{"clusterIP":"127.96.9.9"}}'
refuse service-taken-address 'spec.clusterIPs: Invalid value: .*provided IP is already allocated' create_text "$(service_text twin "clusterIP: $(k get service web -o 'jsonpath={.spec.clusterIP}'),")"
soon service-endpoints 'Endpoints: +[0-9.]+:8080,[0-9.]+:8080' k describe service web
soon service-slice 'web-.* +IPv4 +8080 +[0-9.]+,[0-9.]+' k get endpointslices -l kubernetes.io/service-name=web
check service-old-endpoints 'web +[0-9.]+:8080,[0-9.]+:8080' k get endpoints web
check expose-node-port 'Warning: spec.type NodePort has no effect' k expose deployment web --name=np --port=80 --type=NodePort
check expose-balancer '<pending>' bash -c "timeout 60 kubectl ${server[*]} -n $ns expose deployment web --name=lb --port=80 --type=LoadBalancer 2>/dev/null; timeout 60 kubectl ${server[*]} -n $ns get service lb"
check headless 'None' bash -c "timeout 60 kubectl ${server[*]} -n $ns create service clusterip none --clusterip=None; timeout 60 kubectl ${server[*]} -n $ns get service none"
check external 'service/ext created' k create service externalname ext --external-name=example.com
refuse service-name 'a DNS-1035 label must' k create service clusterip 1a --tcp=80
check delete-services 'deleted' k delete service --all
soon endpoints-go '^0$' rows endpointslices

## Rollouts
cause() { k annotate deployment/web "kubernetes.io/change-cause=$1" --overwrite; }
check history-of-one '^1 +<none>$' k rollout history deployment/web
check cause-of-the-first 'annotated' cause first
check change 'env updated' k set env deployment/web A=1
check cause-of-the-second 'annotated' cause second
check rolled 'successfully rolled out' k rollout status deployment/web --timeout=60s
check history-tells-causes '^1 +first2 +second$' bash -c "timeout 60 kubectl ${server[*]} -n $ns rollout history deployment/web | grep -E '^[0-9]' | tr -d '\n'"
check history-of-a-revision 'A:[[:space:]]+1' k rollout history deployment/web --revision=2
check undo 'rolled back' k rollout undo deployment/web --to-revision=1
check undone 'successfully rolled out' k rollout status deployment/web --timeout=60s
check undone-template '^$' k get deployment web -o 'jsonpath={.spec.template.spec.containers[0].env}'
check undone-history '^2 +second3 +first$' bash -c "timeout 60 kubectl ${server[*]} -n $ns rollout history deployment/web | grep -E '^[0-9]' | tr -d '\n'"
refuse undo-unknown 'unable to find specified revision 9 in history' k rollout undo deployment/web --to-revision=9
check pause 'paused' k rollout pause deployment/web
refuse restart-paused "can't restart paused deployment" k rollout restart deployment/web
refuse undo-paused 'cannot rollback a paused deployment' k rollout undo deployment/web
check change-paused 'image updated' k set image deployment/web c=inferd/engine:v2
check paused-condition 'condition met' k wait --for=jsonpath='{.status.conditions[?(@.type=="Progressing")].reason}'=DeploymentPaused deployment/web --timeout=60s
check paused-scale 'scaled' k scale deployment web --replicas=1 --current-replicas=2
check paused-scaled 'condition met' k wait --for=jsonpath='{.status.replicas}'=1 deployment/web --timeout=60s
refuse scale-other-size 'Expected replicas to be 5, was 1' k scale deployment web --replicas=1 --current-replicas=5
check resume 'resumed' k rollout resume deployment/web
check restart 'restarted' k rollout restart deployment/web
check restarted 'successfully rolled out' k rollout status deployment/web --timeout=60s
check limit-history 'patched' k patch deployment web -p '{"spec":{"revisionHistoryLimit":0}}'
soon history-limited '^1$' rows rs -l app=web
check late-create 'created' apply_text "$(engine late 1 'progressDeadlineSeconds: 1' | sed 's/embedded:..demo-chat/file:\/\/\/absent/')"
refuse late 'error: deployment "late" exceeded its progress deadline' k rollout status deployment/late --timeout=60s
check late-condition 'has timed out progressing' k get deployment late -o 'jsonpath={.status.conditions[?(@.type=="Progressing")].message}'
refuse recreate-rolling "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy .type. is 'Recreate'" create_text "$(engine bad 1 'strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}')"
refuse unavailable-percent 'maxUnavailable: Invalid value: "150%": must not be greater than 100%' create_text "$(engine bad 1 'strategy: {rollingUpdate: {maxUnavailable: "150%"}}')"
refuse bounds-zero 'may not be 0 when' create_text "$(engine bad 1 'strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}')"
refuse deadline-order 'must be greater than minReadySeconds' create_text "$(engine bad 1 'minReadySeconds: 700')"
check failing-quota 'created' k create quota none --hard=pods=0
check failing-create 'created' apply_text "$(engine failing 1)"
check failing 'condition met' k wait --for=condition=ReplicaFailure deployment/failing --timeout=60s
soon failing-event 'FailedCreate .*exceeded quota: none' k get events --field-selector reason=FailedCreate
check delete-workloads 'deleted' k delete deployment --all --timeout=60s

## Namespaces
check other-namespace 'created' n create namespace "$ns-b"
soon namespace-account 'serviceaccount/default' n get serviceaccount,configmap -n "$ns-b" -o name
check namespace-ca 'BEGIN CERTIFICATE' n get configmap kube-root-ca.crt -n "$ns-b" -o 'jsonpath={.data.ca\.crt}'
check namespace-held 'created' n create -n "$ns-b" -f <(printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/hold]}\n')
check namespace-delete 'deleted' n delete namespace "$ns-b" --wait=false
refuse namespace-closed "configmaps \"late\" is forbidden: unable to create new content in namespace $ns-b because it is being terminated" n create configmap late -n "$ns-b"
soon namespace-tells 'example.com/hold in 1 resource instances' n describe namespace "$ns-b"
check namespace-terminating 'Terminating' n get namespace "$ns-b"
check namespace-release 'patched' n patch configmap held -n "$ns-b" --type=merge -p '{"metadata":{"finalizers":null}}'
check namespace-goes '' n wait --for=delete "namespace/$ns-b" --timeout=60s
refuse namespace-kept 'namespaces "default" is forbidden: this namespace may not be deleted' n delete namespace default

## Garbage
uid() { k get "$1" -o 'jsonpath={.metadata.uid}'; }
owned() { # name, the owner's kind, name, uid
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, ownerReferences: [{apiVersion: v1, kind: %s, name: %s, uid: %s, blockOwnerDeletion: true}]}\n' "$@"
}
check owner 'created' k create configmap owner
check dependent 'created' create_text "$(owned dependent ConfigMap owner "$(uid configmap/owner)")"
check orphan-delete 'deleted' k delete configmap owner --cascade=orphan --timeout=60s
check orphaned '^$' k get configmap dependent -o 'jsonpath={.metadata.ownerReferences}'
check owner-again 'created' k create configmap owner
check foreground-dependent 'created' create_text "$(owned second ConfigMap owner "$(uid configmap/owner)")"
check foreground-delete 'deleted' k delete configmap owner --cascade=foreground --timeout=60s
refuse foreground-took-it 'not found' k get configmap second
check owner-absent 'created' create_text "$(owned lost ConfigMap absent 11111111-2222-3333-4444-555555555555)"
check lost-goes '' k wait --for=delete configmap/lost --timeout=60s

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
