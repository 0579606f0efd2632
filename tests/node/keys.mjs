// What OpenAI's own client makes of a service that asks for API keys.
// node keys.mjs BASE_URL MODEL GOOD_KEY BAD_KEY
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [baseURL, model, good, bad] = process.argv.slice(2);
const messages = [{ role: 'user', content: 'What is 2 + 3?' }];
const client = (apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const refused = (error) => {
  assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
  assert.equal(error.status, 401);
  assert.equal(error.code, 'invalid_api_key');
  assert.ok(!error.message.includes(bad), 'the key is quoted');
  return true;
};

const tests = {
  async 'the right key is let in, streamed or not'() {
    const answer = await client(good).chat.completions.create({ model, messages, max_tokens: 4 });
    assert.ok(answer.choices[0].message.content.length > 0);
    const stream = await client(good).chat.completions.create({ model, messages, max_tokens: 4, stream: true });
    let chunks = 0;
    for await (const chunk of stream) chunks += chunk.choices.length;
    assert.ok(chunks > 0);
    assert.ok((await client(good).models.list()).data.some((m) => m.id === model));
  },

  async 'a wrong key is an AuthenticationError'() {
    await assert.rejects(client(bad).chat.completions.create({ model, messages }), refused);
    await assert.rejects(client(bad).chat.completions.create({ model, messages, stream: true }), refused);
    await assert.rejects(client(bad).models.list(), refused);
    await assert.rejects(client(bad).models.retrieve(model), refused);
  },
};

for (const [name, test] of Object.entries(tests)) {
  await test();
  console.log(`ok ${name}`);
}
