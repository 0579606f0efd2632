#!/usr/bin/env bash
# Drives the real kubectl through its commands against a running API server and checks what it
# prints. The server is the one of $KUBECONFIG, or:
#
#   tests/kubectl_dialect.sh [KUBECTL OPTION...]        --server http://127.0.0.1:8001
#
# Works in a namespace of its own, which it deletes. Parts that need controllers are skipped, by
# name, where no Node is. Exit 1 when a check failed; the last line counts.
prefix=dialect
# shellcheck source=tests/kubectl_checks.sh
. "$(dirname "$0")/kubectl_checks.sh"
printf '#!/bin/sh\nsed -i "s/^  z: .*/  z: edited/" "$1"\n' >"$home/editor"
chmod +x "$home/editor"

ssa_diff() { k diff --server-side "${@:2}" -f - <<<"$1"; }

deployment() {
    cat <<YAML
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
      - {name: c, image: "$1", env: [{name: A, value: "1"}], ports: [{containerPort: 80}]}
YAML
}

# Never scheduled: no node has that label.
pending_pod() {
    cat <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {app: $1}}
spec:
  nodeSelector: {example.com/none: "true"}
  containers: [{name: main, image: i}]
YAML
}

event() {
    cat <<YAML
apiVersion: v1
kind: Event
metadata: {name: note.1}
involvedObject: {kind: ConfigMap, name: cm, namespace: $ns, apiVersion: v1}
reason: Noted
message: hello
type: Normal
count: 1
YAML
}

service() { # field of the predictor
    cat <<YAML
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: llm}
spec:
  predictor:
    minReplicas: 0
    $1
    model: {modelFormat: {name: gguf}, storageUri: "file:///absent/model.gguf"}
YAML
}

if ! k version >"$home/version" 2>&1; then
    echo "no server answers: $(tail -n 1 "$home/version")"
    exit 1
fi

## Discovery
check version 'Server Version: v1\.[0-9]+' k version
check api-versions 'serving.kserve.io/v1beta1' k api-versions
check api-resources 'inferenceservices +isvc +serving.kserve.io/v1beta1 +true +InferenceService' k api-resources
check cluster-info 'is running at' k cluster-info
check explain 'minReplicas' k explain inferenceservice.spec.predictor
check explain-builtin 'containers.*Container.*-required-' k explain pod.spec
check raw '"major"' k get --raw /version
check readyz '^ok$' k get --raw /readyz
check whoami 'Username' k auth whoami
check can-i '^yes$' k auth can-i create deployments
check create-namespace "namespace/$ns created" kubectl "${server[@]}" create namespace "$ns"
refuse unknown-type "the server doesn't have a resource type" k get unicorns

## Typed creates: protobuf bodies
check create-configmap 'configmap/cm created' k create configmap cm --from-literal=a=b
check create-secret 'secret/s created' k create secret generic s --from-literal=k=v
check secret-data '^dg==Opaque$' k get secret s -o 'jsonpath={.data.k}{.type}'
check create-sa 'serviceaccount/sa created' k create serviceaccount sa
check create-deployment 'deployment.apps/typed created' k create deployment typed --image=i --replicas=0
check zero-survives '^0$' k get deployment typed -o 'jsonpath={.spec.replicas}'
check create-service 'service/svc created' k create service clusterip svc --tcp=80:8080
refuse create-twice 'AlreadyExists|already exists' k create configmap cm
refuse bad-name 'Invalid value: "UPPER": a lowercase RFC 1123' k create configmap UPPER
refuse no-namespace 'namespaces "absent-ns" not found' kubectl "${server[@]}" -n absent-ns create configmap a
check create-dry-run 'configmap/dry created \(server dry run\)' k create configmap dry --dry-run=server
refuse dry-run-stores-nothing 'NotFound|not found' k get configmap dry

## Apply
check apply-creates 'deployment.apps/web created' apply_text "$(deployment one)"
check apply-same 'deployment.apps/web unchanged' apply_text "$(deployment one)"
check apply-changes 'deployment.apps/web configured' apply_text "$(deployment two)"
check applied '^two$' k get deployment web -o 'jsonpath={.spec.template.spec.containers[0].image}'
check apply-dry-run 'web configured \(server dry run\)' apply_text "$(deployment three)" --dry-run=server
check dry-run-changed-nothing '^two$' k get deployment web -o 'jsonpath={.spec.template.spec.containers[0].image}'
check defaults '^1RollingUpdateTCPIfNotPresent' k get deployment web -o 'jsonpath={.spec.template.spec.containers[0].env[0].value}{.spec.strategy.type}{.spec.template.spec.containers[0].ports[0].protocol}IfNotPresent'
refuse selector-mismatch 'does not match template' apply_text "$(deployment one | sed 's/matchLabels: {app: web}/matchLabels: {app: other}/; s/name: web,/name: mismatch,/')"
refuse strict-builtin 'strict decoding error: unknown field "spec.replcas"' apply_text "$(deployment one | sed 's/replicas: 0/replcas: 0/')"
check apply-isvc 'inferenceservice.serving.kserve.io/llm created' apply_text "$(service 'maxReplicas: 1')"
check apply-isvc-same 'llm unchanged' apply_text "$(service 'maxReplicas: 1')"
check apply-isvc-changes 'llm configured' apply_text "$(service 'maxReplicas: 2')"
check isvc-table 'NAME +URL +READY +PREV +LATEST +PREVROLLEDOUTREVISION +LATESTREADYREVISION +AGE' k get isvc
refuse isvc-typo 'unknown field "spec.predictor.maxReplcas"' apply_text "$(service 'maxReplcas: 1')"
refuse isvc-type 'spec.predictor.maxReplicas: Invalid value: "many".*must be of type integer' apply_text "$(service 'maxReplicas: many')"
twice='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"b","a":"c"}}'
refuse duplicate-strict 'strict decoding error: duplicate field "data.a"' k create --raw "/api/v1/namespaces/$ns/configmaps?fieldValidation=Strict" -f - <<<"$twice"
check duplicate-ignored '"a":"c"' k create --raw "/api/v1/namespaces/$ns/configmaps?fieldValidation=Ignore" -f - <<<"$twice"
refuse duplicate-replace 'strict decoding error: duplicate field "data.a"' k replace --raw "/api/v1/namespaces/$ns/configmaps/twice?fieldValidation=Strict" -f - <<<"$twice"
check isvc-typo-warns 'Warning: unknown field "spec.predictor.maxReplcas"' apply_text "$(service 'maxReplcas: 1')" --validate=warn
check diff-none '^$' k diff -f <(k get configmap cm -o yaml)

## Get
check get-wide 'CONTAINERS +IMAGES +SELECTOR' k get deployment -o wide
check get-name '^deployment.apps/web$' k get deployment web -o name
check get-yaml '^kind: Deployment$' k get deployment web -o yaml
check get-json '"kind": "List"' k get deployments -o json
check get-labels 'app=web' k get deployment --show-labels
check get-selector '^deployment.apps/web$' k get deployment -l 'app in (web),!none' -o name
check get-field '^configmap/cm$' k get configmap --field-selector metadata.name=cm -o name
check get-all-namespaces "^$ns +cm " kubectl "${server[@]}" get configmaps -A
check get-several 'configmap/cm' k get configmaps,secrets
check get-all 'deployment.apps/web' k get all
check get-sorted 'cm' k get configmaps --sort-by=.metadata.name
check get-chunks '^deployment.apps/web$' k get deployments --chunk-size=1 -o name
check get-custom-columns '^cm$' k get configmap cm -o custom-columns=N:.metadata.name --no-headers
check get-none 'No resources found' k get replicasets -l app=absent
refuse get-absent 'Error from server \(NotFound\): configmaps "absent" not found' k get configmap absent
check get-status-subresource 'web' k get deployment web --subresource=status

## Change
check patch-merge 'configmap/cm patched$' k patch configmap cm --type=merge -p '{"data":{"x":"y"}}'
check patch-none 'configmap/cm patched \(no change\)' k patch configmap cm --type=merge -p '{"data":{"x":"y"}}'
check patch-json 'patched' k patch configmap cm --type=json -p '[{"op":"add","path":"/data/z","value":"1"}]'
check patch-strategic 'patched' k patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}'
check strategic-kept-both '^side c$' k get deployment web -o 'jsonpath={.spec.template.spec.containers[*].name}'
refuse strategic-on-custom 'strategic-merge-patch.json is not supported by' k patch isvc llm --type=strategic -p '{"metadata":{"labels":{"a":"b"}}}'
refuse patch-test-fails 'the server rejected our request|testing value|Invalid|invalid' k patch configmap cm --type=json -p '[{"op":"test","path":"/data/z","value":"2"}]'
check patch-status 'patched' k patch isvc llm --type=merge --subresource=status -p '{"status":{"observedGeneration":1}}'
check set-image 'image updated' k set image deployment/web c=four
check set-env 'env updated' k set env deployment/web -c c B=2
check label 'configmap/cm labeled' k label configmap cm tier=a
check label-again 'labeled' k label configmap cm tier=b --overwrite
check unlabel 'unlabeled' k label configmap cm tier-
check annotate 'annotated' k annotate configmap cm note=x
refuse stale-version 'Conflict|object has been modified' k annotate configmap cm note=y --overwrite --resource-version=1
check edit 'configmap/cm edited' env KUBE_EDITOR="$home/editor" timeout 60 kubectl "${server[@]}" -n "$ns" edit configmap cm
check edited '^edited$' k get configmap cm -o 'jsonpath={.data.z}'
check replace 'configmap/cm replaced' k replace -f <(k get configmap cm -o yaml | sed 's/x: .y./x: "z"/')
check scale 'deployment.apps/typed scaled' k scale deployment typed --replicas=0 --current-replicas=0
check scale-subresource '"kind":"Scale".*"replicas":0' k get --raw "/apis/apps/v1/namespaces/$ns/deployments/typed/scale"
refuse immutable-selector 'field is immutable' k patch deployment web -p '{"spec":{"selector":{"matchLabels":{"app":"x"}}}}'
refuse server-side-apply 'Apply failed with 1 conflict: conflict with "kubectl-set" using apps/v1: \.spec\.template\.spec\.containers\[name="c"\]\.image' apply_text "$(deployment one)" --server-side

## Describe and events
check describe-deployment 'StrategyType: +RollingUpdate' k describe deployment web
check describe-isvc 'Kind: +InferenceService' k describe isvc llm
check describe-namespace "Name: +$ns" k describe namespace "$ns"
check describe-configmap 'Data' k describe configmap cm
check describe-secret 'Type: +Opaque' k describe secret s
check describe-service 'Type: +ClusterIP' k describe service svc
check create-event 'event/note.1 created' create_text "$(event)"
check get-events 'Noted +configmap/cm +hello' k get events --field-selector reason=Noted
check events 'Noted +ConfigMap/cm +hello' k events --for configmap/cm
check events-of-the-other-group 'Noted +configmap/cm +hello' k get events.events.k8s.io --field-selector reason=Noted

## Pods and logs
check create-pod 'pod/waits created' create_text "$(pending_pod waits)"
check pod-table 'waits +0/1 +Pending +0 ' k get pods
refuse logs-not-started 'waiting to start' k logs waits
refuse logs-of-container 'container x is not valid for pod waits' k logs waits -c x
refuse logs-previous 'previous terminated container "main" in pod "waits" not found' k logs waits --previous
refuse logs-absent 'pods "absent" not found' k logs absent
refuse pod-spec-is-fixed 'pod updates may not change fields' k patch pod waits -p '{"spec":{"hostname":"x"}}'
check delete-pod 'pod "waits" deleted' k delete pod waits --timeout=20s

## Watch, wait
watched=$home/watched
: >"$watched"
kubectl "${server[@]}" -n "$ns" get configmaps --watch --output-watch-events >"$watched" 2>&1 &
watcher=$!
for _ in $(seq 100); do # until the watch shows what is there
    grep -q ADDED "$watched" && break
    read -rt 0.1 <> <(:) || true
done
check create-watched 'created' k create configmap seen
check delete-watched 'deleted' k delete configmap seen
for _ in $(seq 100); do
    grep -q DELETED "$watched" && break
    read -rt 0.1 <> <(:) || true
done
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null
check watch-added 'ADDED +seen' cat "$watched"
check watch-deleted 'DELETED +seen' cat "$watched"
check wait-delete '' k wait --for=delete configmap/seen --timeout=10s
check wait-jsonpath 'condition met' k wait --for=jsonpath='{.data.a}'=b configmap/cm --timeout=10s
refuse wait-times-out 'timed out' k wait --for=jsonpath='{.data.a}'=never configmap/cm --timeout=1s

## Server-side apply
config_map() { # name, then KEY: VALUE...
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {%s}\n' "$1" "$2"
}
part() { # apiVersion, kind, name, further fields
    printf 'apiVersion: %s\nkind: %s\nmetadata: {name: %s}\n%s\n' "$1" "$2" "$3" "${4-}"
}
owners() { # of KIND/NAME: "manager operation", one a line
    k get "$1" --show-managed-fields -o 'jsonpath={range .metadata.managedFields[*]}{.manager} {.operation}{"\n"}{end}'
}
ssa() { apply_text "$1" --server-side "${@:2}"; }
version() { k get "$1" -o 'jsonpath={.metadata.resourceVersion}'; }
same_version() { # KIND/NAME COMMAND...: it succeeds and makes no new version
    local before
    before=$(version "$1")
    "${@:2}" && [ "$(version "$1")" = "$before" ] && echo "same version"
}
check ssa-dry-run-creates-nothing 'configmap/ours serverside-applied \(server dry run\)' ssa "$(config_map ours 'a: "1", b: "1"')" --dry-run=server
refuse ssa-dry-run-created-nothing 'not found' k get configmap ours
check ssa-create 'configmap/ours serverside-applied' ssa "$(config_map ours 'a: "1", b: "1"')"
check ssa-owner '^kubectl Apply$' owners configmap/ours
check ssa-fields '\{"f:data":\{"f:a":\{\},"f:b":\{\}\}\}' k get configmap ours --show-managed-fields -o 'jsonpath={.metadata.managedFields[0].fieldsV1}'
check ssa-hidden-by-default '^apiVersion' bash -c "! timeout 60 kubectl ${server[*]} -n $ns get configmap ours -o yaml | grep managedFields && echo apiVersion"
check ssa-again-changes-nothing 'same version' same_version configmap/ours ssa "$(config_map ours 'a: "1", b: "1"')"
check ssa-change 'serverside-applied' ssa "$(config_map ours 'a: "2"')"
check ssa-removes-what-it-drops '^map\[a:2\]$|^\{"a":"2"\}$' k get configmap ours -o 'jsonpath={.data}'
check ssa-second-manager 'serverside-applied' ssa "$(config_map ours 'c: "3"')" --field-manager=other
check ssa-both-stay '"a":"2","c":"3"' k get configmap ours -o 'jsonpath={.data}'
refuse ssa-conflict 'Apply failed with 1 conflict: conflict with "kubectl" using v1: .data.a' ssa "$(config_map ours 'a: "9", c: "3"')" --field-manager=other
refuse ssa-conflict-help 'force-conflicts' ssa "$(config_map ours 'a: "9", c: "3"')" --field-manager=other
refuse ssa-conflicts 'Apply failed with 2 conflicts: conflicts with "kubectl" using v1:' bash -c "$(declare -f config_map); config_map ours 'a: \"2\", d: \"4\"' | timeout 60 kubectl ${server[*]} -n $ns apply --server-side -f - >/dev/null; config_map ours 'a: \"9\", d: \"9\"' | timeout 60 kubectl ${server[*]} -n $ns apply --server-side --field-manager=other -f -"
check ssa-force 'serverside-applied' ssa "$(config_map ours 'a: "9", c: "3"')" --field-manager=other --force-conflicts
check ssa-forced-owner '"f:a":\{\}.*"f:c"' k get configmap ours --show-managed-fields -o 'jsonpath={.metadata.managedFields[?(@.manager=="other")].fieldsV1}'
check ssa-share 'serverside-applied' ssa "$(config_map ours 'c: "3"')" --field-manager=third
check ssa-release 'serverside-applied' ssa "$(config_map ours 'a: "9"')" --field-manager=other
check ssa-shared-field-stays '"c":"3"' k get configmap ours -o 'jsonpath={.data}'
check ssa-release-all 'serverside-applied' ssa "$(config_map ours '')" --field-manager=third
check ssa-nobodys-field-goes '^\{"a":"9","d":"4"\}$' k get configmap ours -o 'jsonpath={.data}'
check ssa-update-takes 'patched' k patch configmap ours --type=merge -p '{"data":{"a":"10"}}' --field-manager=editor
check ssa-updater '^editor Update$' owners configmap/ours
refuse ssa-conflict-with-updater 'conflict with "editor" using v1: .data.a' ssa "$(config_map ours 'a: "9"')" --field-manager=other
check ssa-managed-cleared 'patched' k patch configmap ours --type=merge -p '{"metadata":{"managedFields":[{}]}}'
check ssa-nobody-left '^$' owners configmap/ours
check ssa-deployment 'serverside-applied' ssa "$(deployment i:1 | sed 's/name: web,/name: sided,/')"
check ssa-list-item '"k:\{\\"name\\":\\"c\\"\}"' k get deployment sided --show-managed-fields -o json
check ssa-port-key 'containerPort.*:80,.*protocol.*:.*TCP' k get deployment sided --show-managed-fields -o json
check ssa-deployment-again 'same version' same_version deployment/sided ssa "$(deployment i:1 | sed 's/name: web,/name: sided,/')"
check ssa-add-container 'serverside-applied' ssa "$(part apps/v1 Deployment sided 'spec: {template: {spec: {containers: [{name: side, image: s}]}}}')" --field-manager=sidecar
check ssa-containers '^c side$' k get deployment sided -o 'jsonpath={.spec.template.spec.containers[*].name}'
refuse ssa-diff 'image: s:2' ssa_diff "$(part apps/v1 Deployment sided 'spec: {template: {spec: {containers: [{name: side, image: s:2}]}}}')" --field-manager=sidecar
check ssa-drop-container 'serverside-applied' ssa "$(part apps/v1 Deployment sided)" --field-manager=sidecar
check ssa-containers-left '^c$' k get deployment sided -o 'jsonpath={.spec.template.spec.containers[*].name}'
check ssa-scale 'scaled' k scale deployment sided --replicas=1
refuse ssa-conflict-with-scale 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' ssa "$(deployment i:1 | sed 's/name: web,/name: sided,/')"
check ssa-client-side 'created' apply_text "$(config_map mixed 'a: "1", b: "1"')"
check ssa-client-side-owner '^kubectl-client-side-apply Update$' owners configmap/mixed
check ssa-migrate 'serverside-applied' ssa "$(config_map mixed 'a: "2"')"
check ssa-migrated '^kubectl Apply$' owners configmap/mixed
check ssa-migrated-away '^0$' bash -c "timeout 60 kubectl ${server[*]} -n $ns get configmap mixed --show-managed-fields -o yaml | grep -c kubectl-client-side-apply || true"
check ssa-migrated-data '^\{"a":"2"\}$' k get configmap mixed -o 'jsonpath={.data}'
check ssa-client-side-goes-on 'configured' apply_text "$(config_map mixed 'a: "3"')"
check ssa-status 'serverside-applied' ssa "$(part v1 Namespace "$ns" 'status: {conditions: [{type: example.com/Seen, status: "True"}]}')" --subresource=status --field-manager=watcher
check ssa-isvc 'serverside-applied' ssa "$(service 'maxReplicas: 1' | sed 's/name: llm/name: sided/')"
check ssa-isvc-again 'same version' same_version isvc/sided ssa "$(service 'maxReplicas: 1' | sed 's/name: llm/name: sided/')"
refuse ssa-strict 'unknown field "dat"|unknown field "\.dat"' ssa "$(part v1 ConfigMap ours 'dat: {}')"
refuse ssa-duplicate-key 'Duplicate value: \{"name":"A"\}' ssa "$(part apps/v1 Deployment sided 'spec: {template: {spec: {containers: [{name: c, image: i, env: [{name: A, value: x}, {name: A, value: y}]}]}}}')" --field-manager=twice
check ssa-delete 'deleted' k delete configmap/ours configmap/mixed deployment/sided isvc/sided --timeout=30s
## Users' kinds
group=g$$.example.com
definition() { # range of spec.size, further lines below the version
    cat <<END
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$group}
spec:
  group: $group
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd$$]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale:
        specReplicasPath: .spec.replicas
        statusReplicasPath: .status.replicas
        labelSelectorPath: .status.selector
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    selectableFields:
    - {jsonPath: .spec.color}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            description: What is wanted.
            type: object
            required: [size]
            properties:
              size: {type: integer, $1, description: How big.}
              color: {type: string, enum: [red, blue], default: red}
              replicas: {type: integer, default: 1}
              parts: {type: array, items: {type: object, properties: {code: {type: string, pattern: '^[a-z]+$'}}}}
          status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
END
}
widget() { # name, spec
    printf 'apiVersion: %s/v1\nkind: Widget\nmetadata: {name: %s}\nspec: %s\n' "$group" "$1" "$2"
}
check crd-apply 'created' apply_text "$(definition 'minimum: 1, maximum: 10')"
check crd-established 'condition met' k wait --for=condition=Established "crd/widgets.$group" --timeout=10s
check crd-get "widgets\.$group" k get crd
check crd-resources "wd$$ +$group/v1 +true +Widget" k api-resources --api-group="$group"
check crd-explain 'size.*<integer>.*-required-' k explain "widgets.$group.spec"
check crd-explain-enum '^ +blue' k explain "widgets.$group.spec.color"
check cr-create 'created' create_text "$(widget one '{size: 3}')"
check cr-default '^red 1$' k get "wd$$" one -o 'jsonpath={.spec.color} {.spec.replicas}'
check cr-columns 'NAME +SIZE' k get "wd$$"
check cr-apply 'configured' apply_text "$(widget one '{size: 4}')"
check cr-apply-same 'unchanged' apply_text "$(widget one '{size: 4}')"
refuse cr-range 'spec.size: Invalid value: 30: spec.size in body should be less than or equal to 10' create_text "$(widget two '{size: 30}')"
refuse cr-type 'spec.size: Invalid value.*must be of type integer' create_text "$(widget two '{size: big}')"
refuse cr-required 'spec.size: Required value' create_text "$(widget two '{}')"
refuse cr-enum 'spec.color: Unsupported value: "green": supported values: "red", "blue"' create_text "$(widget two '{size: 1, color: green}')"
refuse cr-pattern 'spec.parts\[1\].code: Invalid value.*should match' create_text "$(widget two '{size: 1, parts: [{code: a}, {code: A}]}')"
refuse cr-unknown 'unknown field "spec.bogus"' create_text "$(widget two '{size: 1, bogus: 1}')"
check cr-warn 'unknown field "spec.bogus"' create_text "$(widget two '{size: 1, bogus: 1}')" --validate=warn
check cr-pruned '^$' k get "wd$$" two -o 'jsonpath={.spec.bogus}'
check cr-scale 'scaled' k scale "wd$$" one --replicas=4
check cr-scaled '^4$' k get "wd$$" one -o 'jsonpath={.spec.replicas}'
check cr-status 'patched' k patch "wd$$" one --subresource=status --type=merge -p '{"spec":{"size":9},"status":{"replicas":4,"selector":"a=b"}}'
check cr-status-alone '^4 4$' k get "wd$$" one -o 'jsonpath={.spec.size} {.status.replicas}'
check cr-scale-object '"selector":"a=b"' k get --raw "/apis/$group/v1/namespaces/$ns/widgets/one/scale"
check cr-other-version "^Warning.*deprecated" k get "widgets.v1beta1.$group" one -o 'jsonpath={.apiVersion}'
check crd-widen 'configured' apply_text "$(definition 'minimum: 1, maximum: 99')"
check cr-widened 'patched' k patch "wd$$" one --type=merge -p '{"spec":{"size":30}}'
refuse crd-webhook 'spec.conversion.strategy: Unsupported value: "Webhook"' k patch crd "widgets.$group" --type=merge -p '{"spec":{"conversion":{"strategy":"Webhook"}}}'
refuse crd-schema 'properties\[spec\].*pattern|additionalProperties.*Forbidden' k patch crd "widgets.$group" --type=json -p '[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/additionalProperties","value":false}]'
refuse crd-version-stored 'storedVersions' k patch crd "widgets.$group" --type=json -p '[{"op":"replace","path":"/spec/versions/0/name","value":"v2"}]'
rule() { echo "[{\"op\":\"add\",\"path\":\"/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations\",\"value\":[$1]}]"; }
check crd-cel 'patched' k patch crd "widgets.$group" --type=json -p "$(rule '{"rule":"self.size % 2 == 0","message":"size must be even"},{"rule":"self.size >= oldSelf.size","message":"cannot shrink"}')"
refuse cr-cel 'spec: Invalid value: "object": size must be even' k patch "wd$$" one --type=merge -p '{"spec":{"size":31}}'
refuse cr-cel-transition 'spec: Invalid value: "object": cannot shrink' k patch "wd$$" one --type=merge -p '{"spec":{"size":28}}'
check cr-cel-holds 'patched' k patch "wd$$" one --type=merge -p '{"spec":{"size":32}}'
refuse crd-cel-unknown "rule: Invalid value: .*undeclared reference to 'isSemver'" k patch crd "widgets.$group" --type=json -p "$(rule '{"rule":"isSemver(self.color)"}')"
check cr-selectable "^widget[^ ]*/one$" k get "wd$$" --field-selector=spec.color=red -o name
check cr-selects-none 'No resources found' k get "wd$$" --field-selector=spec.color=blue
refuse cr-unselectable 'field label not supported: spec.size' k get "wd$$" --field-selector=spec.size=32
check cr-server-side "serverside-applied" apply_text "$(widget ssa "{size: 2}")" --server-side
check crd-server-side "serverside-applied" apply_text "$(definition "minimum: 1, maximum: 99")" --server-side --force-conflicts
check crd-delete 'deleted' k delete crd "widgets.$group" --timeout=20s
refuse cr-gone 'could not find the requested resource' k get --raw "/apis/$group/v1/namespaces/$ns/widgets"
check crd-again 'created' apply_text "$(definition 'minimum: 1')"
check cr-none 'No resources found' k get "widgets.$group"
check crd-delete-again 'deleted' k delete crd "widgets.$group" --timeout=20s

## Delete
check finalizer 'patched' k patch configmap cm --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'
refuse delete-held 'timed out' k delete configmap cm --timeout=1s
check still-there '^[0-9]{4}-' k get configmap cm -o 'jsonpath={.metadata.deletionTimestamp}'
refuse no-new-finalizers 'no new finalizers can be added' k patch configmap cm --type=merge -p '{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}'
check release 'patched' k patch configmap cm --type=merge -p '{"metadata":{"finalizers":null}}'
refuse gone 'not found' k get configmap cm
check delete-by-label 'deployment.apps "web" deleted' k delete deployment -l app=web --timeout=20s
check delete-orphan 'deleted' k delete service svc --cascade=background --timeout=20s
check delete-isvc 'deleted' k delete isvc llm --timeout=30s
check delete-collection '"kind":"ServiceAccountList"|ServiceAccountList' k delete --raw "/api/v1/namespaces/$ns/serviceaccounts"
refuse delete-default 'this namespace may not be deleted' kubectl "${server[@]}" delete namespace default
refuse delete-absent 'not found' k delete secret absent

## With controllers
if [ -n "$(kubectl "${server[@]}" get nodes -o name 2>/dev/null)" ]; then
    check node-table 'NAME +STATUS +ROLES +AGE +VERSION' kubectl "${server[@]}" get nodes
    check describe-node 'Allocatable' kubectl "${server[@]}" describe nodes
    check rollout-status 'successfully rolled out' k rollout status deployment/typed --timeout=30s
    check rollout-history 'REVISION' k rollout history deployment/typed
    check delete-namespace 'deleted' kubectl "${server[@]}" delete namespace "$ns" --timeout=30s
    refuse namespace-gone 'not found' kubectl "${server[@]}" get namespace "$ns"
else
    skip "rollout, nodes, namespace contents: no controllers here (no Node)"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
