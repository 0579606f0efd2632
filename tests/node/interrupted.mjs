// @kubernetes/client-node's informer over a line that breaks: what happened meanwhile arrives once, by the watch where the
// server still has it, by a new list where it has not. KUBECONFIG=... node interrupted.mjs, of a server that keeps little history.
import assert from 'node:assert/strict';
import https from 'node:https';
import net from 'node:net';
import { once } from 'node:events';
import * as k8s from '@kubernetes/client-node';

const direct = new k8s.KubeConfig();
direct.loadFromDefault();
const core = direct.makeApiClient(k8s.CoreV1Api);
const namespace = 'interrupted';
const CHANGES_MAX = 5000;
const CHANGES_AT_ONCE = 200;
const path = `/api/v1/namespaces/${namespace}/configmaps`;

/** A TCP line to the server that can be cut and mended. */
class Line {
  constructor(url) {
    this.target = new URL(url);
    this.sockets = new Set();
    this.port = 0;
  }

  async mend() {
    this.server = net.createServer((near) => {
      const far = net.connect(Number(this.target.port), this.target.hostname);
      for (const [a, b] of [[near, far], [far, near]]) {
        this.sockets.add(a);
        a.on('error', () => b.destroy());
        a.on('close', () => { this.sockets.delete(a); b.destroy(); });
        a.pipe(b);
      }
    });
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = this.server.address().port;
  }

  async cut() {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** The configuration of a client at the other end. */
  config() {
    const cluster = { ...direct.getCurrentCluster(), server: `https://127.0.0.1:${this.port}` };
    const config = new k8s.KubeConfig();
    config.loadFromOptions({ clusters: [cluster], users: direct.users, contexts: direct.contexts,
      currentContext: direct.currentContext });
    return config;
  }
}

/** An informer with what it told, and how often it listed. */
class Told {
  constructor(config) {
    const api = config.makeApiClient(k8s.CoreV1Api);
    this.lists = 0;
    this.events = [];
    this.errors = 0;
    this.waiting = [];
    this.informer = k8s.makeInformer(config, path, () => { this.lists++; return api.listNamespacedConfigMap({ namespace }); });
    for (const event of ['add', 'update', 'delete'])
      this.informer.on(event, (o) => this.tell(() => this.events.push(`${event} ${o.metadata.name}`)));
    this.informer.on('error', () => this.tell(() => this.errors++));
  }

  tell(what) {
    what();
    this.waiting = this.waiting.filter(({ fits, resolve }) => !fits() || resolve());
  }

  until(fits) {
    return new Promise((resolve) => fits() ? resolve() : this.waiting.push({ fits, resolve }));
  }

  /** Waits for that many events, and gives them without those of the namespace's own. */
  async take(num) {
    const mine = () => this.events.filter((e) => !e.endsWith('kube-root-ca.crt'));
    await this.until(() => mine().length >= num);
    const taken = mine();
    this.events = [];
    return taken;
  }
}

const create = (name) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name } } });
const change = (name, k) => core.patchNamespacedConfigMap({ namespace, name, body: { data: { k } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
/** One change of something that the informer does not look at, over a connection that stays. */
async function disturb(agent, i) {
  const url = new URL(`${direct.getCurrentCluster().server}/api/v1/namespaces/default/configmaps/kube-root-ca.crt`);
  const request = https.request(url, { method: 'PATCH', agent, headers: { 'Content-Type': k8s.PatchStrategy.MergePatch } });
  request.end(JSON.stringify({ metadata: { annotations: { i: `${i}` } } }));
  const [response] = await once(request, 'response');
  assert.equal(response.statusCode, 200);
  await once(response.resume(), 'end');
}

/** Changes something else until the server no longer knows what was at that revision. */
async function forgetHistory(revision) {
  const past = { namespace, resourceVersion: revision, resourceVersionMatch: 'Exact' };
  const known = () => core.listNamespacedConfigMap(past).then(() => true, (e) => {
    assert.equal(e.code, 410);
    return false;
  });
  const user = direct.getCurrentUser();
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1,
    ca: Buffer.from(direct.getCurrentCluster().caData, 'base64'),
    cert: Buffer.from(user.certData, 'base64'), key: Buffer.from(user.keyData, 'base64') });
  let changes = 0;
  do {
    assert.ok(changes < CHANGES_MAX, `after ${changes} changes revision ${revision} is still known`);
    for (let i = 0; i < CHANGES_AT_ONCE; i++) await disturb(agent, changes++);
  } while (await known());
  agent.destroy();
}

const remove = (name) => core.deleteNamespacedConfigMap({ namespace, name });

await core.createNamespace({ body: { metadata: { name: namespace } } });
await create('a');
await create('b');
const line = new Line(direct.getCurrentCluster().server);
await line.mend();
const told = new Told(line.config());
await told.informer.start();
assert.deepEqual((await told.take(2)).sort(), ['add a', 'add b']);
assert.equal(told.lists, 1);
await change('a', '0'); // the watch goes on
assert.deepEqual(await told.take(1), ['update a']);

await line.cut();
await told.until(() => told.errors === 1);
await change('a', '1');
await remove('b');
await create('c');
await line.mend();
await told.informer.start();
assert.deepEqual(await told.take(3), ['update a', 'delete b', 'add c']);
assert.equal(told.lists, 1);
console.log('ok an informer that lost its connection goes on at the last revision that it has seen');

await line.cut();
await told.until(() => told.errors === 2);
await change('a', '2');
await remove('c');
await create('d');
await forgetHistory(told.informer.latestResourceVersion());
await line.mend();
await told.informer.start();
assert.deepEqual((await told.take(3)).sort(), ['add d', 'delete c', 'update a']);
assert.equal(told.lists, 2);
await change('d', '1'); // and the new watch works
assert.deepEqual(await told.take(1), ['update d']);
assert.deepEqual(told.informer.list(namespace).map((o) => o.metadata.name).filter((n) => n !== 'kube-root-ca.crt').sort(), ['a', 'd']);
console.log('ok an informer that was away for too long lists again');

await told.informer.stop();
await line.cut();
