// Uses OpenAI's client for JavaScript: node openai_calls.mjs BASE_URL KEY.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3], maxRetries: 0 });
const chat = (content, model = "openrouter/m", more = {}) => ({ model, messages: [{ role: "user", content }], ...more });
const create = (...asked) => client.chat.completions.create(chat(...asked));
const failure = async (promise) => promise.then(() => assert.fail("no error"), (error) => error);

const completion = await create("hi");
assert.equal(completion.choices[0].message.content, "echo: hi");
assert.ok(completion._request_id);
const { data, response } = await client.chat.completions.create(chat("hi")).withResponse();
assert.equal(data.choices[0].message.content, "echo: hi");
assert.match(response.headers.get("location"), /^\/jobs\//);

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const called = await create('call weather {"city":"Oslo"}', "openrouter/m", { tools });
assert.deepEqual(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments), { city: "Oslo" });

const image = [{ type: "text", text: "what?" }, { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } }];
assert.equal((await create(image)).choices[0].message.content, "echo: what?");

const parts = [];
for await (const chunk of await create("a b", "openrouter/m", { stream: true, stream_options: { include_usage: true } })) {
  parts.push(chunk.choices[0]?.delta.content ?? chunk.usage?.total_tokens ?? chunk.choices[0].finish_reason);
}
assert.deepEqual(parts, ["", "echo:", " a", " b", "stop", 5]);
const runner = client.chat.completions.stream(chat("a b"));
assert.equal(await runner.finalContent(), "echo: a b");

const broken = await create("a b c d", "openrouter/sim-error-object-500", { stream: true });
const error = await failure((async () => { for await (const _ of broken); })());
assert.deepEqual([error instanceof OpenAI.APIError, error.code], [true, "provider_error"]);

const errors = [
  ["openrouter/sim-400", OpenAI.BadRequestError, 400, "invalid_request"],
  ["openrouter/sim-401", OpenAI.AuthenticationError, 401, "invalid_api_key"],
  ["openrouter/sim-403", OpenAI.PermissionDeniedError, 403, "invalid_api_key"],
  ["nobody/x", OpenAI.NotFoundError, 404, "model_not_found"],
  ["openrouter/sim-402", OpenAI.RateLimitError, 429, "insufficient_quota"],
  ["openrouter/sim-429", OpenAI.RateLimitError, 429, "rate_limit_exceeded"],
  ["openrouter/sim-500", OpenAI.InternalServerError, 500, "provider_error"],
];
for (const [model, kind, status, code] of errors) {
  const error = await failure(create("hi", model));
  assert.deepEqual([error instanceof kind, error.status, error.code], [true, status, code], model);
}

const embeddings = await client.embeddings.create({ model: "openrouter/embed", input: Array(2048).fill("a") });
assert.equal(embeddings.data.length, 2048);
assert.deepEqual(embeddings.data[0].embedding.slice(0, 2), [1, 0.5]);
const floats = await client.embeddings.create({ model: "openrouter/embed", input: [[1, 2]], encoding_format: "float" });
assert.deepEqual(floats.data[0].embedding, [1, 0.5, 1 / 3, 0.25]);

assert.equal((await client.models.retrieve("openrouter/openai/x")).id, "openrouter/openai/x");
for await (const model of client.models.list()) assert.equal(model.object, "model");
assert.equal((await client.responses.create({ model: "openrouter/m", input: "hi" })).output_text, "echo: hi");

console.log("passed");
