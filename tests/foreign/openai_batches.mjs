// Uses batches with OpenAI's client for JavaScript: node openai_batches.mjs BASE_URL KEY.
// The key is of an owner who has nothing, and `${KEY} of another` is the key of another owner.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const other = new OpenAI({ baseURL, apiKey: `${apiKey} of another`, maxRetries: 0 });
const endpoint = "/v1/chat/completions";
const secret = `whsec_${Buffer.from([...Array(32).keys()]).toString("base64")}`;

const line = (id, model = "openrouter/m", url = endpoint) =>
  JSON.stringify({ custom_id: id, method: "POST", url, body: { model, messages: [{ role: "user", content: id }] } });
const upload = (text) => client.files.create({ file: new File([text], "requests.jsonl"), purpose: "batch" });
const create = async (lines, more = {}, options = {}) => {
  const file = await upload(lines.join("\n"));
  return client.batches.create({ input_file_id: file.id, endpoint, completion_window: "24h", ...more }, options);
};
const until = async (found) => {
  const end = performance.now() + 30_000;
  for (;;) {
    const value = await found();
    if (value) return value;
    assert.ok(performance.now() < end, `${found}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const ended = (batch) =>
  until(async () => {
    const found = await client.batches.retrieve(batch.id);
    return ["in_progress", "cancelling"].includes(found.status) ? undefined : found;
  });
const text = async (id) => (await client.files.content(id)).text();
const lines = async (id) => (await text(id)).trimEnd().split("\n").map(JSON.parse);

// Lists end, without repetition.
const created = [];
for (let number = 0; number < 45; number++) created.unshift(await create([line(`${number}`)]));
await Promise.all(created.map(ended));
for (const limit of [7, 15, 45, 100]) {
  const found = [];
  for await (const batch of client.batches.list({ limit })) found.push(batch.id);
  assert.deepEqual(found, created.map((batch) => batch.id), `batches, limit ${limit}`);
  for (const order of ["asc", "desc"]) {
    const files = [];
    for await (const file of client.files.list({ limit, order, purpose: "batch" })) files.push(file.id);
    if (order === "asc") files.reverse();
    assert.deepEqual(files, created.map((batch) => batch.input_file_id), `files, limit ${limit}, ${order}`);
  }
}

// Mistakes have the number of their line; a BOM, CRLF and blank lines are none.
const mistakes = ["\ufeff" + line("a"), "{", line("a"), line("b", "openrouter/m", "/v1/x"), line("c").replace("POST", "PUT"), line("d").replace('"model":"openrouter/m",', ""), "", ""];
const wrong = await upload(mistakes.join("\r\n"));
const rejected = await client.batches.create({ input_file_id: wrong.id, endpoint, completion_window: "24h" });
assert.deepEqual([wrong.status, rejected.status], ["processed", "failed"]);
assert.deepEqual(
  rejected.errors.data.map((error) => [error.line, error.code]),
  [[2, "invalid_json_line"], [3, "duplicate_custom_id"], [4, "invalid_url"], [5, "invalid_method"], [6, "missing_required_parameter"]],
);
const bytes = await client.files.create({ file: new File([new Uint8Array([0xff, 0x0a])], "x"), purpose: "batch" });
const unreadable = await client.batches.create({ input_file_id: bytes.id, endpoint, completion_window: "24h" });
assert.deepEqual([unreadable.status, unreadable.errors.data[0].line], ["failed", 1]);
assert.equal((await create([])).errors.data[0].code, "empty_file");

// Another owner has nothing of these.
const [first] = created;
const done = await client.batches.retrieve(first.id);
for (const id of [done.input_file_id, done.output_file_id]) {
  for (const call of ["retrieve", "content", "delete"]) {
    await assert.rejects(other.files[call](id), OpenAI.NotFoundError, `${call} ${id}`);
  }
}
await assert.rejects(other.batches.retrieve(done.id), OpenAI.NotFoundError);
await assert.rejects(other.batches.cancel(done.id), OpenAI.NotFoundError);
const taken = { input_file_id: done.input_file_id, endpoint, completion_window: "24h" };
await assert.rejects(other.batches.create(taken), OpenAI.NotFoundError);
assert.deepEqual([(await other.files.list()).data, (await other.batches.list()).data], [[], []]);

// All requests fail.
const failed = await ended(await create(["a", "b"].map((id) => line(id, "openrouter/sim-400"))));
assert.deepEqual([failed.status, failed.output_file_id], ["completed", null]);
assert.deepEqual(failed.request_counts, { total: 2, completed: 0, failed: 2 });
assert.equal((await lines(failed.error_file_id)).length, 2);

// A cancelled batch keeps the answers that it has.
const hanging = ["0", "1", "2"].map((id) => line(id, "openrouter/sim-hang"));
const running = await create([line("done", "ollama/m"), ...hanging]);
const output = `file-${running.id.replace("batch_", "")}-output`;
await until(() => text(output));
const cancelling = await client.batches.cancel(running.id);
assert.ok(["cancelling", "cancelled"].includes(cancelling.status), cancelling.status);
const cancelled = await ended(cancelling);
assert.equal(cancelled.status, "cancelled");
assert.deepEqual(cancelled.request_counts, { total: 4, completed: 1, failed: 3 });
assert.deepEqual((await lines(cancelled.output_file_id)).map((answer) => answer.custom_id), ["done"]);
const unanswered = await lines(cancelled.error_file_id);
assert.deepEqual(unanswered.map((error) => error.error.code), Array(3).fill("batch_cancelled"));

// A job has a shorter deadline than a batch can have.
const job = await fetch(new URL("/jobs?deadline_s=1", baseURL), {
  method: "POST",
  headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/x-ndjson" },
  body: line("late", "openrouter/sim-hang"),
});
const expired = await ended({ id: (await job.json()).job_id });
const [late] = await lines(expired.error_file_id);
assert.deepEqual([expired.status, expired.expired_at], ["expired", expired.expires_at]);
assert.deepEqual([late.response, late.error.code], [null, "batch_expired"]);

// Metadata has limits.
const pairs = Object.fromEntries([...Array(17).keys()].map((number) => [`${number}`, ""]));
for (const metadata of [pairs, { ["k".repeat(65)]: "" }, { k: "v".repeat(513) }]) {
  await assert.rejects(create([line("a")], { metadata }), OpenAI.BadRequestError);
}

// The same key returns the same batch.
const again = { headers: { "Idempotency-Key": "run-42" } };
assert.equal((await create([line("a")], {}, again)).id, (await create([line("a")], {}, again)).id);

// A webhook has a signature that the client checks.
const events = [];
const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  events.push(await client.webhooks.unwrap(Buffer.concat(chunks).toString(), request.headers, secret));
  response.writeHead(204).end();
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const hooked = await create([line("a")], { webhook_url: `http://127.0.0.1:${server.address().port}/hook` });
await until(() => events.length);
assert.deepEqual([events[0].type, events[0].data.id], ["batch.completed", hooked.id]);
server.closeAllConnections();
server.close();

console.log("passed");
