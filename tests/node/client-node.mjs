// @kubernetes/client-node against the daemon: typed and generic calls, patches, an informer, logs.
// KUBECONFIG=... node client-node.mjs
import assert from 'node:assert/strict';
import * as k8s from '@kubernetes/client-node';
import { Writable } from 'node:stream';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const generic = k8s.KubernetesObjectApi.makeApiClient(config);
const namespace = 'default';
const isvc = { group: 'serving.kserve.io', version: 'v1beta1', namespace, plural: 'inferenceservices' };

/** Resolves with the first event for which fits(object) holds; the informer goes on. */
function seen(informer, event, fits) {
  return new Promise((resolve) => informer.on(event, (o) => fits(o) && resolve(o)));
}

const tests = {
  async 'nodes and namespaces have what the typed model requires'() {
    const nodes = await core.listNode();
    assert.equal(nodes.items.length, 1);
    assert.ok(nodes.items[0].status.nodeInfo.kubeletVersion);
    const names = (await core.listNamespace()).items.map((n) => n.metadata.name);
    for (const name of ['default', 'kube-system']) assert.ok(names.includes(name), name);
  },

  async 'an informer sees add, update and delete of a ConfigMap'() {
    const list = () => core.listNamespacedConfigMap({ namespace });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
    const mine = (o) => o.metadata.name === 'watched';
    const added = seen(informer, 'add', mine);
    const updated = seen(informer, 'update', (o) => mine(o) && o.data?.k === 'new');
    const deleted = seen(informer, 'delete', mine);
    await informer.start();
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'watched' }, data: { k: 'old' } } });
    await added;
    const live = await core.readNamespacedConfigMap({ namespace, name: 'watched' });
    live.data.k = 'new';
    await core.replaceNamespacedConfigMap({ namespace, name: 'watched', body: live });
    assert.ok(Number((await updated).metadata.resourceVersion) > Number(live.metadata.resourceVersion));
    await assert.rejects(core.replaceNamespacedConfigMap({ namespace, name: 'watched', body: { ...live, data: {} } }),
      (e) => e.code === 409);
    await core.deleteNamespacedConfigMap({ namespace, name: 'watched' });
    await deleted;
    await informer.stop();
  },

  async 'every patch type does what it says'() {
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'patched' }, data: { a: '1', b: '2' } } });
    const patch = (body, strategy) => core.patchNamespacedConfigMap({ namespace, name: 'patched', body },
      k8s.setHeaderOptions('Content-Type', strategy));
    let after = await patch([{ op: 'replace', path: '/data/a', value: '3' }], k8s.PatchStrategy.JsonPatch);
    assert.deepEqual(after.data, { a: '3', b: '2' });
    after = await patch({ data: { b: null, c: '4' } }, k8s.PatchStrategy.MergePatch);
    assert.deepEqual(after.data, { a: '3', c: '4' });
    after = await patch({ metadata: { labels: { x: 'y' } } }, k8s.PatchStrategy.StrategicMergePatch);
    assert.equal(after.metadata.labels.x, 'y');
    await assert.rejects(patch([{ op: 'test', path: '/data/a', value: 'no' }], k8s.PatchStrategy.JsonPatch),
      (e) => e.code === 422);
    await core.deleteNamespacedConfigMap({ namespace, name: 'patched' });
    await assert.rejects(core.readNamespacedConfigMap({ namespace, name: 'patched' }), (e) => e.code === 404);
  },

  async 'an InferenceService becomes ready, has pods and logs, and goes with all that is its own'() {
    const body = { apiVersion: 'serving.kserve.io/v1beta1', kind: 'InferenceService', metadata: { name: 'node', namespace },
      spec: { predictor: { model: { modelFormat: { name: 'gguf' }, storageUri: 'embedded://demo-chat' } } } };
    const list = () => custom.listNamespacedCustomObject(isvc);
    const informer = k8s.makeInformer(config, `/apis/${isvc.group}/${isvc.version}/namespaces/${namespace}/${isvc.plural}`, list);
    const ready = (o) => o.metadata.name === 'node' &&
      o.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
    const becameReady = seen(informer, 'update', ready);
    const deleted = seen(informer, 'delete', (o) => o.metadata.name === 'node');
    await informer.start();
    await generic.create(body);
    const service = await becameReady;
    assert.equal(service.status.observedGeneration, service.metadata.generation);
    const pods = (await core.listNamespacedPod({ namespace, labelSelector: 'serving.kserve.io/inferenceservice=node' })).items;
    assert.equal(pods.length, 1);
    let log = '';
    const sink = new Writable({ write(chunk, _, done) { log += chunk; done(); } });
    const finished = new Promise((resolve) => sink.on('finish', resolve));
    await new k8s.Log(config).log(namespace, pods[0].metadata.name, 'kserve-container', sink, { follow: false });
    await finished;
    assert.match(log, /replica is ready/);
    const deployment = (await apps.listNamespacedDeployment({ namespace })).items.find((d) => d.metadata.name === 'node-predictor');
    assert.equal(deployment.status.readyReplicas, 1);
    await generic.delete({ apiVersion: body.apiVersion, kind: body.kind, metadata: { name: 'node', namespace } });
    await deleted;
    await informer.stop();
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok ${name}`);
}
