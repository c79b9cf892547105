#!/usr/bin/env node
// The OpenAI Node SDK and the Vercel AI SDK, once straight to an upstream and once through Remora.
//
//     sdk_compare.mjs BASE_URL_DIRECT BASE_URL_PROXY       both end in /v1
//
// The same plan as sdk_compare.py: cases that compare field by field with the cache kept out of it, then cases about the cache
// through the proxy alone. The upstream must be `remora simulate`.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

import { createOpenAI } from "@ai-sdk/openai";
import { embed, embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const KEY = "sk-e2e-alpha";
const OTHER_KEY = "sk-e2e-beta";
const NO_CACHE = { "Cache-Control": "no-cache" };
const VOLATILE = new Set(["id", "created", "_request_id", "request_id"]);
const WEATHER = {
  type: "function",
  function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
};
const CLOCK = { type: "function", function: { name: "get_time", parameters: { type: "object", properties: {} } } };
const CAPITAL = {
  type: "object",
  properties: { city: { type: "string" }, population: { type: "integer" } },
  required: ["city", "population"],
  additionalProperties: false,
};

let passed = 0;
let failed = 0;

async function check(name, run) {
  try {
    await run();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.name}: ${error.message}`);
  }
}

function must(condition, message) {
  if (!condition) throw new Error(message);
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(([name]) => !VOLATILE.has(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, plain(inner)]));
}

function difference(a, b, path = "$") {
  if (isDeepStrictEqual(a, b)) return null;
  const bothObjects = a && b && typeof a === "object" && typeof b === "object" && Array.isArray(a) === Array.isArray(b);
  if (!bothObjects) return `${path}: ${JSON.stringify(a)} direct, ${JSON.stringify(b)} through the proxy`;
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const found = difference(a[name], b[name], `${path}.${name}`);
    if (found) return found;
  }
  return `${path}: differ in form`;
}

function same(a, b) {
  const found = difference(a, b);
  must(found === null, found);
}

function client(baseURL, { key = KEY, headers = NO_CACHE, ...options } = {}) {
  return new OpenAI({ baseURL, apiKey: key, defaultHeaders: headers, timeout: 30_000, ...options });
}

function ask(c, content, options = {}) {
  const messages = [{ role: "system", content: "You answer briefly." }, { role: "user", content }];
  return c.chat.completions.create({ model: "gpt-4o", messages, ...options });
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** Texts joined by choice, tool calls by index, the last finish_reason, the usage. */
function assembled(chunks) {
  const choices = {};
  let usage = null;
  for (const chunk of chunks) {
    usage = chunk.usage ?? usage;
    for (const { index, delta, finish_reason } of chunk.choices) {
      const made = (choices[index] ??= { content: "", reasoning: "", refusal: "", calls: {}, finish: null });
      made.content += delta.content ?? "";
      made.reasoning += delta.reasoning_content ?? "";
      made.refusal += delta.refusal ?? "";
      for (const call of delta.tool_calls ?? []) {
        const known = (made.calls[call.index] ??= { id: call.id, name: call.function.name, arguments: "" });
        known.arguments += call.function.arguments ?? "";
      }
      made.finish = finish_reason ?? made.finish;
    }
  }
  return { choices, usage: plain(usage) };
}

/** A completion in the form of `assembled`. */
function whole({ choices, usage }) {
  const made = choices.map(({ message, finish_reason }) => {
    const calls = (message.tool_calls ?? []).map(({ id, function: f }) => ({ id, name: f.name, arguments: f.arguments }));
    return {
      content: message.content ?? "",
      reasoning: message.reasoning_content ?? "",
      refusal: message.refusal ?? "",
      calls: { ...calls },
      finish: finish_reason,
    };
  });
  return { choices: { ...made }, usage: plain(usage) };
}

async function streamAndWhole(c, content, options = {}) {
  const streamed = assembled(await collect(await ask(c, content, { ...options, stream: true, stream_options: { include_usage: true } })));
  same(whole(await ask(c, content, options)), streamed);
  return streamed;
}

/** The SDK's error for a failing call, and how many requests the SDK sent for it. */
async function errorOf(baseURL, call, expected, { retries = 0, key = KEY, passesThrough = true } = {}) {
  let attempts = 0;
  const counting = (...args) => {
    attempts += 1;
    return fetch(...args);
  };
  try {
    await call(client(baseURL, { key, maxRetries: retries, fetch: counting }));
  } catch (error) {
    must(error.constructor === expected, `${error.constructor.name}, not ${expected.name}: ${error.message}`);
    const seen = { class: expected.name, status: error.status, attempts };
    return passesThrough ? { ...seen, code: error.code, type: error.type, param: error.param, message: error.message } : seen;
  }
  throw new Error(`no error; expected ${expected.name}`);
}

// --- the Vercel AI SDK

function vercel(baseURL, { key = KEY, headers = NO_CACHE } = {}) {
  return createOpenAI({ baseURL, apiKey: key, headers });
}

const CHAT = (baseURL, options) => vercel(baseURL, options).chat("gpt-4o");
const TOOLS = { get_weather: tool({ inputSchema: jsonSchema(WEATHER.function.parameters) }) };

function told(result) {
  const { text, finishReason, usage, toolCalls } = result;
  return plain(JSON.parse(JSON.stringify({ text, finishReason, usage, toolCalls: toolCalls?.map(({ toolName, input }) => ({ toolName, input })) })));
}

async function streamed(baseURL, prompt) {
  const result = streamText({ model: CHAT(baseURL), prompt, maxRetries: 0 });
  const parts = await collect(result.textStream);
  return { parts, finish: await result.finishReason, usage: JSON.parse(JSON.stringify(await result.usage)) };
}

async function compareCases(direct, proxy) {
  const both = (name, call) => check(`compare: ${name}`, async () => same(await call(direct), await call(proxy)));
  const sdk = (name, call) => both(name, (url) => call(client(url)));
  const fails = (name, call, expected, options) => both(name, (url) => errorOf(url, call, expected, options));

  await sdk("chat", async (c) => plain(await ask(c, "What is the capital of Norway?")));
  await sdk("chat, text in many scripts", async (c) => plain(await ask(c, "東京 👩‍👩‍👧 ☕ Ünïcode?")));
  await sdk("chat, reasoning model", (c) => streamAndWhole(c, "Think", { model: "sim-reason-1" }));
  await sdk("chat, refusal", (c) => streamAndWhole(c, "[refuse] this"));
  await sdk("chat, n=3, stream", (c) => streamAndWhole(c, "Three", { n: 3 }));
  await sdk("chat, max_tokens", async (c) => plain(await ask(c, "Long", { max_tokens: 5 })));
  await sdk("chat, logprobs", async (c) => plain(await ask(c, "Logs", { logprobs: true, top_logprobs: 3 })));
  await sdk("stream, chunk by chunk", async (c) => plain(await collect(await ask(c, "Chunks", { stream: true }))));
  await sdk("stream, the SDK's helper", async (c) => {
    const runner = c.chat.completions.stream({ model: "gpt-4o", messages: [{ role: "user", content: "Helper" }] });
    return plain(await runner.finalChatCompletion());
  });
  await sdk("tool call", async (c) => plain(await ask(c, "get weather in Oslo", { tools: [WEATHER, CLOCK] })));
  await sdk("tool calls, parallel, stream", (c) => streamAndWhole(c, "in parallel", { tools: [WEATHER, CLOCK] }));
  await sdk("JSON mode", async (c) => {
    const completion = await ask(c, "JSON", { response_format: { type: "json_object" } });
    JSON.parse(completion.choices[0].message.content);
    return plain(completion);
  });
  await sdk("JSON schema", async (c) => {
    const format = { type: "json_schema", json_schema: { name: "capital", strict: true, schema: CAPITAL } };
    const completion = await ask(c, "Schema", { response_format: format });
    must("city" in JSON.parse(completion.choices[0].message.content), "not the schema");
    return plain(completion);
  });
  await sdk("completions", async (c) => plain(await c.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Hi", logprobs: 2 })));
  await sdk("completions, stream", async (c) =>
    plain(await collect(await c.completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Hi", stream: true }))),
  );
  const vectors = (c, options) => c.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"], dimensions: 32, ...options });
  await sdk("embeddings, base64 equals float", async (c) => {
    const [decoded, floats] = [await vectors(c), await vectors(c, { encoding_format: "float" })];
    const close = decoded.data.every(({ embedding }, i) => embedding.every((x, j) => Math.abs(x - floats.data[i].embedding[j]) < 1e-6));
    must(close, "base64 and float differ");
    return plain(floats);
  });
  await sdk("embeddings, base64", async (c) => plain(await vectors(c, { encoding_format: "base64" })));
  await sdk("models, list", async (c) => (await c.models.list()).data.map(({ id }) => id));
  await sdk("models, retrieve", async (c) => plain(await c.models.retrieve("gpt-4o")));

  await fails("error 400", (c) => c.chat.completions.create({ model: "gpt-4o", messages: [] }), OpenAI.BadRequestError, { retries: 2 });
  await fails("error 401", (c) => ask(c, "x"), OpenAI.AuthenticationError, { retries: 2, key: "sk-invalid-e2e" });
  await fails("error 404", (c) => ask(c, "x", { model: "no-such-model" }), OpenAI.NotFoundError, { retries: 2 });
  const limited = "sim-fault-status=429+retry-after=0.01";
  await fails("error 429, two retries", (c) => ask(c, "x", { model: limited }), OpenAI.RateLimitError, { retries: 2, passesThrough: false });
  const broken = "sim-fault-status=500";
  await fails("error 500, one retry", (c) => ask(c, "x", { model: broken }), OpenAI.InternalServerError, { retries: 1, passesThrough: false });
  const slow = (c) => c.chat.completions.create({ model: "sim-fault-latency=3s", messages: [{ role: "user", content: "x" }] }, { timeout: 300 });
  await fails("timeout", slow, OpenAI.APIConnectionTimeoutError, { retries: 1 });
  const midStream = async (c) => collect(await ask(c, "x", { model: "sim-fault-error-event=3", stream: true }));
  await fails("error in the middle of a stream", midStream, OpenAI.APIError, { passesThrough: false });

  await both("AI SDK, generateText", async (url) => told(await generateText({ model: CHAT(url), prompt: "Vercel", maxRetries: 0 })));
  await both("AI SDK, streamText", (url) => streamed(url, "Vercel stream"));
  await both("AI SDK, tool call", async (url) => {
    const result = await generateText({ model: CHAT(url), prompt: "get weather in Oslo", tools: TOOLS, maxRetries: 0 });
    must(result.toolCalls.length === 1, "no tool call");
    return told(result);
  });
  await both("AI SDK, generateObject", async (url) => {
    const { object } = await generateObject({ model: CHAT(url), prompt: "Vercel object", schema: jsonSchema(CAPITAL), maxRetries: 0 });
    return object;
  });
  await both("AI SDK, embed", async (url) => {
    const { embeddings, usage } = await embedMany({ model: vercel(url).embedding("text-embedding-3-small"), values: ["a", "b"], maxRetries: 0 });
    return { embeddings, usage };
  });
  await both("AI SDK, error 404", async (url) => {
    try {
      await generateText({ model: vercel(url).chat("no-such-model"), prompt: "x", maxRetries: 0 });
    } catch (error) {
      return { name: error.name, status: error.statusCode, message: error.message, retryable: error.isRetryable };
    }
    throw new Error("no error");
  });
}

// --- cases about the cache: each has a system message of its own, so that it meets nothing stored before it

const state = (headers) => ({ cache: headers.get("x-remora-cache"), tier: headers.get("x-remora-tier"), reason: headers.get("x-remora-reason") });

async function cacheCases(proxy) {
  const alpha = client(proxy, { headers: {}, maxRetries: 0 });
  const beta = client(proxy, { key: OTHER_KEY, headers: {}, maxRetries: 0 });

  async function scoped(scope, content, { c = alpha, ...options } = {}) {
    const messages = [{ role: "system", content: `Case ${scope}` }, { role: "user", content }];
    const { data, response } = await c.chat.completions.create({ model: "gpt-4o", temperature: 0, messages, ...options }).withResponse();
    return { data: options.stream ? await collect(data) : data, how: state(response.headers) };
  }

  async function repeat(first, second) {
    const a = await first();
    await pause(500);
    return [a, await second()];
  }

  await check("cache: an identical call is an exact hit", async () => {
    const scope = randomUUID();
    const [a, b] = await repeat(() => scoped(scope, "Name a river."), () => scoped(scope, "Name a river."));
    must(a.how.cache === "MISS" && b.how.cache === "HIT" && b.how.tier === "exact", JSON.stringify([a.how, b.how]));
    must(a.data.id !== b.data.id, "a hit must have a new id");
    same(plain(a.data), plain(b.data));
  });
  await check("cache: a reworded question is a semantic hit", async () => {
    const scope = randomUUID();
    const [a, b] = await repeat(
      () => scoped(scope, "What is the capital of France?"),
      () => scoped(scope, "What is the capital city of France?"),
    );
    must(b.how.cache === "HIT" && b.how.tier === "semantic", JSON.stringify(b.how));
    must(a.data.choices[0].message.content === b.data.choices[0].message.content, "another answer");
  });
  await check("cache: another order number is not a hit", async () => {
    const scope = randomUUID();
    const [, b] = await repeat(() => scoped(scope, "Where is order 48213?"), () => scoped(scope, "Where is order 48214?"));
    must(b.how.cache === "MISS" && b.data.choices[0].message.content.includes("48214"), JSON.stringify(b.how));
  });
  await check("cache: another caller never gets it", async () => {
    const scope = randomUUID();
    const [, b] = await repeat(() => scoped(scope, "My balance?"), () => scoped(scope, "My balance?", { c: beta }));
    must(b.how.cache === "MISS", JSON.stringify(b.how));
  });
  const usage = { stream: true, stream_options: { include_usage: true } };
  await check("cache: stream after JSON", async () => {
    const scope = randomUUID();
    const [a, b] = await repeat(() => scoped(scope, "Name a lake."), () => scoped(scope, "Name a lake.", usage));
    must(b.how.cache === "HIT", JSON.stringify(b.how));
    same(whole(a.data), assembled(b.data));
  });
  await check("cache: JSON after stream", async () => {
    const scope = randomUUID();
    const [a, b] = await repeat(() => scoped(scope, "Name a hill.", usage), () => scoped(scope, "Name a hill."));
    must(b.how.cache === "HIT", JSON.stringify(b.how));
    same(assembled(a.data), whole(b.data));
  });
  await check("cache: embeddings", async () => {
    const create = () => alpha.embeddings.create({ model: "text-embedding-3-small", input: scope, dimensions: 16 }).withResponse();
    const scope = randomUUID();
    const [a, b] = await repeat(create, create);
    must(state(b.response.headers).cache === "HIT", JSON.stringify(state(b.response.headers)));
    same(plain(a.data.data), plain(b.data.data));
  });

  const model = CHAT(proxy, { headers: {} });
  const said = (headers) => headers["x-remora-cache"];
  await check("cache: AI SDK, generateText, then streamText", async () => {
    const request = { model, temperature: 0, maxRetries: 0, system: `Case ${randomUUID()}`, prompt: "Name a moor." };
    const [a, b] = await repeat(() => generateText(request), () => generateText(request));
    must(said(a.response.headers) === "MISS" && said(b.response.headers) === "HIT", JSON.stringify(b.response.headers));
    const stream = streamText(request);
    const text = (await collect(stream.textStream)).join("");
    must(said((await stream.response).headers) === "HIT", "the stream was no hit");
    must(a.text === b.text && b.text === text, "other answers");
    same(a.usage, b.usage);
    same(JSON.parse(JSON.stringify(a.usage)), JSON.parse(JSON.stringify(await stream.usage)));
  });
  await check("cache: AI SDK, streamText, then generateText", async () => {
    const request = { model, temperature: 0, maxRetries: 0, system: `Case ${randomUUID()}`, prompt: "Name a wood." };
    const stream = streamText(request);
    const text = (await collect(stream.textStream)).join("");
    await pause(500);
    const b = await generateText(request);
    must(said(b.response.headers) === "HIT" && b.text === text, JSON.stringify(b.response.headers));
  });
  await check("cache: AI SDK, embed", async () => {
    const request = { model: vercel(proxy, { headers: {} }).embedding("text-embedding-3-small"), value: randomUUID(), maxRetries: 0 };
    const [a, b] = await repeat(() => embed(request), () => embed(request));
    must(said(b.response.headers) === "HIT", JSON.stringify(b.response.headers));
    same(a.embedding, b.embedding);
  });
}

const [direct, proxy] = process.argv.slice(2).map((url) => url.replace(/\/+$/, ""));
if (!direct || !proxy) {
  console.error("usage: sdk_compare.mjs BASE_URL_DIRECT BASE_URL_PROXY");
  process.exit(2);
}
await compareCases(direct, proxy);
if (direct === proxy) console.log("cache cases left out: both URLs are the same");
else await cacheCases(proxy);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
