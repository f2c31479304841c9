// Uses OpenAI's client for JavaScript: node openai_files.mjs BASE_URL KEY.
import assert from "node:assert/strict";
import { createReadStream, writeFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3], maxRetries: 0 });

const line = (id, model = "openrouter/m") =>
  JSON.stringify({
    custom_id: id,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model, messages: [{ role: "user", content: id }] },
  });
const text = [line("a"), line("b", "ollama/m"), line("c", "openrouter/sim-404")].join("\n");
writeFileSync("requests.jsonl", text);

const uploads = [
  createReadStream("requests.jsonl"),
  await toFile(Buffer.from(text)),
  new File([text], "näme.jsonl"),
  new Response(text),
];
const files = [];
for (const file of uploads) {
  files.push(await client.files.create({ file, purpose: "batch", expires_after: { anchor: "created_at", seconds: 3600 } }));
}
for (const file of files) {
  assert.equal(file.bytes, Buffer.byteLength(text));
  assert.ok([3600, 3601].includes(file.expires_at - file.created_at));
  assert.equal(await (await client.files.content(file.id)).text(), text);
}
await client.files.waitForProcessing(files[0].id);

const listed = [];
for await (const file of client.files.list({ limit: 3 })) listed.push(file.id);
assert.deepEqual(listed, files.map((file) => file.id).reverse());
await client.files.delete(files[3].id);
await assert.rejects(client.files.retrieve(files[3].id), OpenAI.NotFoundError);
await assert.rejects(client.files.create({ file: await toFile(Buffer.from("x")), purpose: "x" }), OpenAI.BadRequestError);

const create = (file) =>
  client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h", metadata: { k: "v" } });
let batch = await create(files[0]);
while (batch.status === "in_progress") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  batch = await client.batches.retrieve(batch.id);
}
assert.deepEqual(batch.request_counts, { total: 3, completed: 2, failed: 1 });
assert.equal(batch.metadata.k, "v");
const lines = async (id) => (await (await client.files.content(id)).text()).trimEnd().split("\n").map(JSON.parse);
const answers = await lines(batch.output_file_id);
assert.deepEqual(answers.map((answer) => answer.custom_id), ["a", "b"]);
assert.equal(answers[1].response.body.choices[0].message.content, "echo: b");
const [failed] = await lines(batch.error_file_id);
assert.deepEqual([failed.custom_id, failed.response.status_code, failed.error], ["c", 404, null]);

const wrong = await client.files.create({ file: await toFile(Buffer.from(`${line("a")}\n{`)), purpose: "batch" });
const rejected = await create(wrong);
assert.deepEqual([rejected.status, rejected.errors.data[0].line], ["failed", 2]);
await assert.rejects(client.batches.cancel(batch.id), OpenAI.BadRequestError);
const batches = [];
for await (const found of client.batches.list({ limit: 1 })) batches.push(found.id);
assert.deepEqual(batches, [rejected.id, batch.id]);
console.log("passed");
