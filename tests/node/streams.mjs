// @kubernetes/client-node's streams: exec, attach, port-forward, and a log that is followed to its end; and exec where there is none.
// KUBECONFIG=... node streams.mjs
import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = 'default';

/** A Writable with what was written to it. */
class Text extends Writable {
  text = '';
  waiting = [];

  _write(chunk, _, done) {
    this.text += chunk;
    this.waiting = this.waiting.filter(({ part, resolve }) => !this.text.includes(part) || resolve());
    done();
  }

  until(part) {
    return new Promise((resolve) => this.text.includes(part) ? resolve() : this.waiting.push({ part, resolve }));
  }
}

/** Resolves when fits(pod) holds for the pod. */
async function untilPod(name, fits) {
  const watch = new k8s.Watch(config);
  await new Promise((resolve, reject) => {
    const query = { fieldSelector: `metadata.name=${name}`, resourceVersion: '0' };
    const started = watch.watch(`/api/v1/namespaces/${namespace}/pods`, query, (type, pod) => {
      if (type !== 'ERROR' && fits(pod)) started.then((controller) => { resolve(); controller.abort(); });
    }, (error) => error?.name !== 'AbortError' && reject(error ?? new Error('the watch ended')));
  });
}

async function makePod(name, container, rest = {}) {
  await core.createNamespacedPod({ namespace, body: { metadata: { name }, spec: {
    terminationGracePeriodSeconds: 1, ...rest, containers: [{ name: 'main', ...container }] } } });
  await untilPod(name, (pod) => pod.status.containerStatuses?.[0].state.running);
}

/** Runs a command; gives its Status, and what it wrote. */
async function run(pod, command, stdin = null) {
  const out = new Text();
  const err = new Text();
  const status = await new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(namespace, pod, 'main', command, out, err, stdin, false, resolve).catch(reject);
  });
  return { status, out: out.text, err: err.text };
}

const tests = {
  async 'exec has both outputs, an input that ends, and an exit status'() {
    await makePod('shell', { image: 'host', command: ['sleep', '100000'] });
    const fine = await run('shell', ['sh', '-c', 'echo to-out; echo to-err >&2']);
    assert.deepEqual([fine.status.status, fine.out, fine.err], ['Success', 'to-out\n', 'to-err\n']);
    const failed = await run('shell', ['sh', '-c', 'exit 3']);
    assert.deepEqual([failed.status.status, failed.status.reason, failed.status.details.causes[0].message],
      ['Failure', 'NonZeroExitCode', '3']);
    const sorted = await run('shell', ['sort'], Readable.from(['b\n', 'a\n']));
    assert.deepEqual([sorted.status.status, sorted.out], ['Success', 'a\nb\n']);
  },

  async 'a log is followed until the container ends'() {
    const script = 'echo first; until [ -e go ]; do sleep 0.05; done; echo last';
    await makePod('talks', { image: 'host', command: ['sh', '-c', script] }, { restartPolicy: 'Never' });
    const sink = new Text();
    await new k8s.Log(config).log(namespace, 'talks', 'main', sink, { follow: true, timestamps: false });
    await sink.until('first');
    assert.equal((await run('talks', ['touch', 'go'])).status.status, 'Success');
    await finished(sink);
    assert.equal(sink.text, 'first\nlast\n');
    await untilPod('talks', (pod) => pod.status.phase === 'Succeeded');
    const tail = new Text();
    await new k8s.Log(config).log(namespace, 'talks', 'main', tail, { follow: false, tailLines: 1 });
    await finished(tail);
    assert.equal(tail.text, 'last\n');
  },

  async 'attach shows what a container says from now on'() {
    await makePod('says', { image: 'host', command: ['sh', '-c', 'while :; do echo again; sleep 0.05; done'] });
    const out = new Text();
    const socket = await new k8s.Attach(config).attach(namespace, 'says', 'main', out, null, null, false);
    await out.until('again\nagain\n');
    socket.close();
  },

  async 'a port of a pod is forwarded'() {
    const echo = 'import socket\ns = socket.create_server(("127.0.0.1", 0))\nprint("port", s.getsockname()[1], flush=True)\n'
      + 'while True:\n  c, _ = s.accept()\n  while data := c.recv(4096): c.sendall(data.upper())\n  c.close()';
    await makePod('echo', { image: 'host', command: ['python3', '-c', echo] });
    const said = new Text();
    const log = await new k8s.Log(config).log(namespace, 'echo', 'main', said, { follow: true });
    await said.until('\n');
    log.abort();
    const out = new Text();
    const input = new Readable({ read() {} });
    input.push('to the pod');
    const socket = await new k8s.PortForward(config)
      .portForward(namespace, 'echo', [Number(said.text.split(' ')[1])], out, null, input);
    await out.until('TO THE POD');
    socket.close();
  },

  async 'exec in a replica of a model is refused'() {
    await makePod('model', { image: 'inferd/engine', args: ['--model', 'embedded://demo-chat'] });
    await assert.rejects(run('model', ['ls']), (error) => /40[035]/.test(error.message ?? error.error?.message));
    await assert.rejects(run('absent', ['ls']), (error) => /404/.test(error.message ?? error.error?.message));
  },
};

process.on('unhandledRejection', (e) => { if (e.name !== 'AbortError') throw e; }); // of the watches
for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok ${name}`);
}
