// Uploads 60 MB with OpenAI's client for JavaScript: node openai_upload.mjs BASE_URL KEY.
import assert from "node:assert/strict";
import { createReadStream, statSync, writeFileSync } from "node:fs";
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const content = "x".repeat(400_000);
const body = { model: "openrouter/m", messages: [{ role: "user", content }] };
const line = (custom_id) => JSON.stringify({ custom_id, method: "POST", url: "/v1/chat/completions", body });
writeFileSync("large.jsonl", [...Array(150).keys()].map((number) => line(`${number}`)).join("\n"));

const file = await client.files.create({ file: createReadStream("large.jsonl"), purpose: "batch" });
assert.ok(file.bytes > 60_000_000);
assert.equal(file.bytes, statSync("large.jsonl").size);
await client.files.delete(file.id);

console.log("passed");
