// @kubernetes/client-node against the daemon: typed and generic calls, patches, pages, informers, leases, logs.
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

/** Ended at the end: logs that go on. */
const controllers = [];

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

  async 'a custom resource has every patch type but the strategic one'() {
    const one = { ...isvc, name: 'patched' };
    const model = { modelFormat: { name: 'gguf' }, storageUri: 'file:///absent/model.gguf' };
    const body = { apiVersion: 'serving.kserve.io/v1beta1', kind: 'InferenceService', metadata: { name: one.name },
      spec: { predictor: { minReplicas: 0, model } } };
    await custom.createNamespacedCustomObject({ ...isvc, body });
    const patch = (change, strategy, more) => custom.patchNamespacedCustomObject({ ...one, ...more, body: change },
      k8s.setHeaderOptions('Content-Type', strategy));
    let after = await patch([{ op: 'add', path: '/spec/predictor/maxReplicas', value: 3 }], k8s.PatchStrategy.JsonPatch);
    assert.equal(after.spec.predictor.maxReplicas, 3);
    after = await patch({ spec: { predictor: { maxReplicas: null } } }, k8s.PatchStrategy.MergePatch);
    assert.equal(after.spec.predictor.maxReplicas, undefined);
    await assert.rejects(patch({ spec: {} }, k8s.PatchStrategy.StrategicMergePatch), (e) => e.code === 415);
    const applied = { ...body, spec: { predictor: { ...body.spec.predictor, maxReplicas: 2 } } };
    after = await patch(applied, k8s.PatchStrategy.ServerSideApply, { fieldManager: 'node', force: true });
    assert.equal(after.spec.predictor.maxReplicas, 2);
    await assert.rejects(patch({ ...applied, spec: { predictor: { model, maxReplicas: 1 } } },
      k8s.PatchStrategy.ServerSideApply, { fieldManager: 'other', force: false }), (e) => e.code === 409);
    await custom.deleteNamespacedCustomObject(one);
  },

  async 'an informer goes on when its watch ends'() {
    // The server ends such a watch after a second, as a lost connection would; the informer watches again.
    const path = `/api/v1/namespaces/${namespace}/configmaps?timeoutSeconds=1`;
    const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace }));
    let connects = 0;
    const again = new Promise((resolve) => informer.on('connect', () => ++connects === 3 && resolve()));
    const added = seen(informer, 'add', (o) => o.metadata.name === 'late');
    await informer.start();
    await again;
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'late' } } });
    await added;
    await informer.stop();
    await core.deleteNamespacedConfigMap({ namespace, name: 'late' });
  },

  async 'a list comes in pages'() {
    for (let i = 0; i < 5; i++)
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `page${i}`, labels: { paged: 'yes' } } } });
    const names = [];
    let next;
    do {
      const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'paged=yes', limit: 2, _continue: next });
      assert.ok(page.items.length <= 2);
      names.push(...page.items.map((o) => o.metadata.name));
      next = page.metadata._continue;
    } while (next);
    assert.deepEqual(names, ['page0', 'page1', 'page2', 'page3', 'page4']);
    await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'paged=yes' });
    assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'paged=yes' })).items.length, 0);
  },

  async 'the generic client applies on the server, and owners are in conflict'() {
    const o = (data) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data });
    const apply = (data, manager, force) =>
      generic.patch(o(data), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
    await apply({ a: '1', b: '1' }, 'one', false);
    await assert.rejects(apply({ a: '2' }, 'two', false), (e) => e.code === 409);
    assert.deepEqual((await apply({ a: '2' }, 'two', true)).data, { a: '2', b: '1' });
    assert.deepEqual((await apply(undefined, 'one', false)).data, { a: '2' });
    const read = await generic.read({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace } });
    assert.deepEqual(read.metadata.managedFields.map((f) => [f.manager, f.operation]), [['two', 'Apply']]);
    const all = await generic.list('v1', 'ConfigMap', namespace, undefined, undefined, undefined, undefined, undefined, 1);
    assert.equal(all.items.length, 1);
    await generic.delete(read);
  },

  async 'one of two candidates gets a Lease'() {
    const leases = config.makeApiClient(k8s.CoordinationV1Api);
    const spec = (who) => ({ holderIdentity: who, leaseDurationSeconds: 15, renewTime: new k8s.V1MicroTime() });
    const made = await Promise.allSettled(['a', 'b'].map((who) => leases.createNamespacedLease({ namespace,
      body: { metadata: { name: 'leader' }, spec: spec(who) } })));
    assert.equal(made.filter((m) => m.status === 'fulfilled').length, 1);
    assert.equal(made.find((m) => m.status === 'rejected').reason.code, 409);
    const held = await leases.readNamespacedLease({ namespace, name: 'leader' });
    const renewals = await Promise.allSettled(['a', 'b'].map((who) => leases.replaceNamespacedLease({ namespace,
      name: 'leader', body: { ...held, spec: spec(who) } })));
    assert.equal(renewals.filter((r) => r.status === 'fulfilled').length, 1);
    await leases.deleteNamespacedLease({ namespace, name: 'leader' });
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
    // A log that goes on comes as it is written, and ends when the client has enough.
    const followed = new Promise((resolve, reject) => {
      const follower = new Writable({ write(chunk, _, done) { resolve(String(chunk)); done(); } });
      new k8s.Log(config).log(namespace, pods[0].metadata.name, 'kserve-container', follower, { follow: true })
        .then((c) => controllers.push(c), reject);
    });
    assert.match(await followed, /./);
    const deployment = (await apps.listNamespacedDeployment({ namespace })).items.find((d) => d.metadata.name === 'node-predictor');
    assert.equal(deployment.status.readyReplicas, 1);
    await generic.delete({ apiVersion: body.apiVersion, kind: body.kind, metadata: { name: 'node', namespace } });
    await deleted;
    await informer.stop();
  },
};

process.on('unhandledRejection', (e) => { if (e.name !== 'AbortError') throw e; }); // of the controllers
for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok ${name}`);
}
for (const c of controllers) c.abort();
