// Uses OpenAI's client for JavaScript: node openai_calls.mjs BASE_URL KEY SIMULATOR_URL.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { makeParseableResponseFormat, makeParseableTool } from "openai/lib/parser";

const [baseURL, apiKey, simulator] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const simulate = async (behaviour) => {
  await fetch(`${simulator}/_sim/config`, { method: "PUT", body: JSON.stringify(behaviour) });
  await fetch(`${simulator}/_sim/reset`, { method: "POST" });
};
const received = async () => (await fetch(`${simulator}/_sim/received`)).json();
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

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const format = makeParseableResponseFormat({ type: "json_schema", json_schema: { name: "City", schema } }, JSON.parse);
await simulate({});
await assert.rejects(client.chat.completions.parse(chat("hi", "openrouter/m", { response_format: format })), SyntaxError);
const [sent] = await received(); // the simulator does not follow the schema, so the text is no JSON
assert.deepEqual(JSON.parse(sent.body).response_format.json_schema.schema.required, ["city"]);
const city = makeParseableTool({ type: "function", function: { name: "City", parameters: schema, strict: true } }, { parser: JSON.parse });
const parsed = await client.chat.completions.parse(chat('call City {"city":"Oslo"}', "openrouter/m", { tools: [city] }));
assert.deepEqual(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, { city: "Oslo" });

const image = [{ type: "text", text: "what?" }, { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } }];
assert.equal((await create(image)).choices[0].message.content, "echo: what?");

const parts = [];
for await (const chunk of await create("a b", "openrouter/m", { stream: true, stream_options: { include_usage: true } })) {
  parts.push(chunk.choices[0]?.delta.content ?? chunk.usage?.total_tokens ?? chunk.choices[0].finish_reason);
}
assert.deepEqual(parts, ["", "echo:", " a", " b", "stop", 5]);
const runner = client.chat.completions.stream(chat("a b"));
assert.equal(await runner.finalContent(), "echo: a b");

// A client with one connection has to wait for the end of a stream before its next call.
const { constructor: Agent } = globalThis[Symbol.for("undici.globalDispatcher.1")];
const single = client.withOptions({ fetchOptions: { dispatcher: new Agent({ connections: 1 }) }, timeout: 10_000 });
for (let count = 0; count < 2; count++) {
  for await (const _ of await single.chat.completions.create(chat("hi", "openrouter/m", { stream: true })));
}
assert.equal((await single.chat.completions.create(chat("hi"))).choices[0].message.content, "echo: hi");

const broken = await create("a b c d", "openrouter/sim-error-object-500", { stream: true });
const error = await failure((async () => { for await (const _ of broken); })());
assert.deepEqual([error instanceof OpenAI.APIError, error.code], [true, "provider_error"]);

const errors = [
  ["openrouter/sim-400", OpenAI.BadRequestError, 400, "invalid_request"],
  ["openrouter/sim-401", OpenAI.AuthenticationError, 401, "invalid_api_key"],
  ["openrouter/sim-403", OpenAI.PermissionDeniedError, 403, "invalid_api_key"],
  ["nobody/x", OpenAI.NotFoundError, 404, "model_not_found"],
  ["openrouter/sim-404", OpenAI.NotFoundError, 404, "model_not_found"],
  ["openrouter/sim-422", OpenAI.UnprocessableEntityError, 422, "invalid_request"],
  ["openrouter/sim-402", OpenAI.RateLimitError, 429, "insufficient_quota"],
  ["openrouter/sim-429", OpenAI.RateLimitError, 429, "rate_limit_exceeded"],
  ["openrouter/sim-500", OpenAI.InternalServerError, 500, "provider_error"],
  ["openrouter/sim-504", OpenAI.InternalServerError, 504, "timeout"],
];
for (const [model, kind, status, code] of errors) {
  const error = await failure(create("hi", model));
  assert.deepEqual([error instanceof kind, error.status, error.code], [true, status, code], model);
}

// `x-should-retry` decides whether the client repeats a call.
for (const [status, calls] of [[402, 1], [504, 1], [500, 3]]) {
  await simulate({});
  const repeating = client.withOptions({ maxRetries: 2 });
  await failure(repeating.chat.completions.create(chat("hi", `openrouter/sim-${status}`)));
  assert.equal((await received()).length, calls, `calls after ${status}`);
}

// The client waits as long as the provider asks. No other test sends this text: a repetition may get the answer of an equal
// call that was answered within the last 10 s.
await simulate({ retry_after: "1.5" });
const started = performance.now();
assert.equal((await failure(create("first of JavaScript", "openrouter/sim-429x1"))).headers.get("retry-after-ms"), "1500");
await client.withOptions({ maxRetries: 1 }).chat.completions.create(chat("second of JavaScript", "openrouter/sim-429x1"));
assert.ok(performance.now() - started >= 1500);
assert.equal((await received()).length, 3);

// A repetition after a time-out joins the call that still runs.
await simulate({ latency_ms: 1500 });
const joined = await client.withOptions({ timeout: 600, maxRetries: 5 }).chat.completions.create(chat("slow"));
assert.equal(joined.choices[0].message.content, "echo: slow");
assert.equal((await received()).length, 1);
await simulate({});

const embeddings = await client.embeddings.create({ model: "openrouter/embed", input: Array(2048).fill("a") });
assert.equal(embeddings.data.length, 2048);
assert.deepEqual(embeddings.data[0].embedding.slice(0, 2), [1, 0.5]);
const floats = await client.embeddings.create({ model: "openrouter/embed", input: [[1, 2]], encoding_format: "float" });
assert.deepEqual(floats.data[0].embedding, [1, 0.5, 1 / 3, 0.25]);

assert.equal((await client.models.retrieve("openrouter/openai/x")).id, "openrouter/openai/x");
assert.equal((await client.get("/models/openrouter/openai/x")).id, "openrouter/openai/x"); // the slashes are not escaped
await assert.rejects(client.models.retrieve("nobody/x"), OpenAI.NotFoundError);
for await (const model of client.models.list()) assert.equal(model.object, "model");
assert.equal((await client.responses.create({ model: "openrouter/m", input: "hi" })).output_text, "echo: hi");

console.log("passed");
