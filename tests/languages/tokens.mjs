// Write the tokens that transformers.js generates greedily from a bundle.
//
//     node tokens.mjs BUNDLE MAX_NEW_TOKENS < prompts.json

import { readFileSync } from "node:fs";

process.env.ORT_DISABLE_TELEMETRY = "1"; // it loads onnxruntime-node
const { AutoModelForCausalLM, Tensor, env } = await import("@huggingface/transformers");

const [bundle, maxNewTokens] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = "/";
const model = await AutoModelForCausalLM.from_pretrained(bundle, {
  subfolder: "",
  dtype: "fp32",
  local_files_only: true,
});

const integers = (values) =>
  new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const written = [];
for (const prompt of JSON.parse(readFileSync(0, "utf8"))) {
  const output = await model.generate({
    input_ids: integers(prompt),
    attention_mask: integers(prompt.map(() => 1)),
    max_new_tokens: Number(maxNewTokens),
    do_sample: false,
  });
  written.push(output.tolist()[0].slice(prompt.length).map(Number));
}
console.log(JSON.stringify(written));
