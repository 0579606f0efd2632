// OpenAI's own client against an endpoint: what an application developer does, and what goes wrong.
// node openai.mjs BASE_URL MODEL
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries: 0 });
const messages = [{ role: 'user', content: 'What is 17 + 25?' }];

const tests = {
  async 'models are listed and found'() {
    const models = await client.models.list();
    assert.ok(models.data.some((m) => m.id === model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async 'a chat completion answers with usage'() {
    const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
    assert.equal(answer.object, 'chat.completion');
    assert.equal(answer.choices[0].message.role, 'assistant');
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.ok(['stop', 'length'].includes(answer.choices[0].finish_reason));
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.ok(prompt_tokens > 0 && completion_tokens > 0);
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
  },

  async 'a stream adds up to the whole answer'() {
    const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
    const stream = await client.chat.completions.create({
      model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } });
    let text = '', usage = null, finish = null, role = null;
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage;
      const choice = chunk.choices[0];
      role = choice?.delta.role ?? role;
      text += choice?.delta.content ?? '';
      finish = choice?.finish_reason ?? finish;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(role, 'assistant');
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async 'the same seed gives the same text, n gives n'() {
    const ask = () => client.chat.completions.create({
      model, messages, temperature: 1, seed: 7, n: 3, max_completion_tokens: 12 });
    const [a, b] = [await ask(), await ask()];
    assert.equal(a.choices.length, 3);
    assert.deepEqual(a.choices.map((c) => c.message.content), b.choices.map((c) => c.message.content));
    assert.deepEqual(a.choices.map((c) => c.index), [0, 1, 2]);
  },

  async 'log probabilities come with bytes and alternatives'() {
    const answer = await client.chat.completions.create({
      model, messages, temperature: 0, logprobs: true, top_logprobs: 3, max_tokens: 4 });
    const content = answer.choices[0].logprobs.content;
    assert.ok(content.length > 0 && content.length <= 4);
    for (const t of content) {
      assert.ok(t.logprob <= 0);
      assert.equal(t.top_logprobs.length, 3);
      assert.equal(t.top_logprobs[0].token, t.token); // greedy: the best is the one taken
      assert.equal(Buffer.from(t.bytes).toString(), t.token);
    }
  },

  async 'a stop string ends the text before it'() {
    const free = await client.completions.create({ model, prompt: 'One two three', temperature: 0, max_tokens: 24 });
    const text = free.choices[0].text;
    const stop = text.slice(Math.floor(text.length / 2), Math.floor(text.length / 2) + 2);
    const cut = await client.completions.create({ model, prompt: 'One two three', temperature: 0, max_tokens: 24, stop });
    assert.equal(cut.choices[0].text, text.slice(0, text.indexOf(stop)));
    assert.equal(cut.choices[0].finish_reason, 'stop');
  },

  async 'echo and several prompts keep their order'() {
    const answer = await client.completions.create({
      model, prompt: ['Hello', 'Good day'], echo: true, max_tokens: 2, temperature: 0, logprobs: 1 });
    assert.ok(answer.choices[0].text.startsWith('Hello'));
    assert.ok(answer.choices[1].text.startsWith('Good day'));
    const { tokens, token_logprobs, text_offset } = answer.choices[0].logprobs;
    assert.equal(tokens.length, token_logprobs.length);
    assert.equal(tokens.length, text_offset.length);
    assert.equal(token_logprobs[0], null);
  },

  async 'max_tokens 1 gives one token and length'() {
    const answer = await client.completions.create({ model, prompt: 'x', max_tokens: 1, ignore_eos: true });
    assert.equal(answer.usage.completion_tokens, 1);
    assert.equal(answer.choices[0].finish_reason, 'length');
  },

  async 'an aborted stream frees the engine for the next'() {
    const stream = await client.completions.create({ model, prompt: 'x', stream: true, ignore_eos: true, max_tokens: 200 });
    for await (const _ of stream) break;
    stream.controller.abort();
    const answer = await client.completions.create({ model, prompt: 'x', max_tokens: 1 });
    assert.equal(answer.usage.completion_tokens, 1);
  },

  async 'errors are those of the client library, with the parameter'() {
    const fails = (promise, type, param) => assert.rejects(promise, (e) => {
      assert.ok(e instanceof type, `${e.constructor.name}: ${e.message}`);
      if (param) assert.equal(e.param, param);
      assert.ok(e.requestID);
      return true;
    });
    const chat = (more) => client.chat.completions.create({ model, messages, ...more });
    await fails(chat({ model: 'no-such-model' }), OpenAI.NotFoundError, 'model');
    await fails(chat({ temperature: 3 }), OpenAI.BadRequestError, 'temperature');
    await fails(chat({ top_p: 0 }), OpenAI.BadRequestError, 'top_p');
    await fails(chat({ max_tokens: 0 }), OpenAI.BadRequestError, 'max_tokens');
    await fails(chat({ messages: [] }), OpenAI.BadRequestError, 'messages');
    await fails(chat({ n: 1000 }), OpenAI.BadRequestError, 'n');
    await fails(chat({ temprature: 1 }), OpenAI.BadRequestError, 'temprature');
    await fails(chat({ response_format: { type: 'json_object' } }), OpenAI.BadRequestError, 'response_format');
    await fails(client.completions.create({ model, prompt: [99999999] }), OpenAI.BadRequestError, 'prompt');
    await fails(client.completions.create({ model, prompt: 'word '.repeat(20000) }), OpenAI.BadRequestError);
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok ${name}`);
}
