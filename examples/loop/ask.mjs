// Decide and answer with nothing but onnxruntime-node: token ids in, decision and tokens out.
//
//     npm install onnxruntime-node
//     node ask.mjs BUNDLE/loop.onnx 0.5 32 < prompt_ids.json

import { readFileSync } from "node:fs";

// Before the library is loaded, hence no static import: those come first, wherever they stand.
process.env.ORT_DISABLE_TELEMETRY = "1";
const { InferenceSession, Tensor } = await import("onnxruntime-node");

const [path, tau, maxNewTokens] = process.argv.slice(2);
if (maxNewTokens === undefined) {
  console.error("usage: node ask.mjs BUNDLE/loop.onnx TAU MAX_NEW_TOKENS < prompt_ids.json");
  process.exit(1);
}

const promptIds = JSON.parse(readFileSync(0, "utf8"));
const session = await InferenceSession.create(path);
const outcome = await session.run({
  input_ids: new Tensor("int64", BigInt64Array.from(promptIds, BigInt), [1, promptIds.length]),
  tau: new Tensor("float32", [Number(tau)], []),
  max_new_tokens: new Tensor("int64", [BigInt(maxNewTokens)], []),
});

const plain = ({ type, dims, data }) => {
  const values = Array.from(data, type === "bool" ? Boolean : Number);
  return dims.length === 0 ? values[0] : values;
};
const entries = Object.entries(outcome).map(([name, tensor]) => [name, plain(tensor)]);
console.log(JSON.stringify(Object.fromEntries(entries)));
