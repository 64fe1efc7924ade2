// Asks a running `foggen serve` with OpenAI's npm client; prints what it saw as one JSON object.
// Usage: node openai.mjs BASE_URL SURE_QUESTION UNSURE_QUESTION
import OpenAI from "openai";

const [baseURL, sure, unsure] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const ask = (content) => ({ model: "gpt-4o", messages: [{ role: "user", content }] });

const whole = await client.chat.completions.create({ ...ask(sure), temperature: 0 });

let streamed = "";
let streamedSource;
let usage;
const stream = await client.chat.completions.create({
  ...ask(sure),
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  streamedSource ??= chunk.x_foggen?.source;
  usage = chunk.usage?.total_tokens ?? usage;
}

const helper = await client.chat.completions.stream(ask(sure)).finalContent();
const deferred = await client.chat.completions.create(ask(unsure));
const models = (await client.models.list()).data.length;

let refused;
try {
  const tool = { type: "function", function: { name: "f" } };
  await client.chat.completions.create({ ...ask(sure), tools: [tool] });
} catch (error) {
  refused = [error.status, error.param];
}

console.log(
  JSON.stringify({
    content: whole.choices[0].message.content,
    finish_reason: whole.choices[0].finish_reason,
    source: whole.x_foggen.source,
    streamed,
    streamed_source: streamedSource,
    usage,
    helper,
    refusal: deferred.choices[0].message.refusal,
    models,
    refused,
  }),
);
