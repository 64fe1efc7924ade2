// Decide and answer with nothing but onnxruntime's jar: token ids in, decision and tokens out.
//
//     ORT_DISABLE_TELEMETRY=1 \
//       java -cp onnxruntime.jar Ask.java BUNDLE/loop.onnx 0.5 32 < prompt_ids.json

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import java.util.Arrays;
import java.util.Map;

public final class Ask {
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 3) {
      System.err.println("usage: Ask.java BUNDLE/loop.onnx TAU MAX_NEW_TOKENS < prompt_ids.json");
      System.exit(1);
    }
    // onnxruntime's telemetry starts with its library, and Java cannot set a variable for it.
    if (!"1".equals(System.getenv("ORT_DISABLE_TELEMETRY"))) {
      System.err.println("set ORT_DISABLE_TELEMETRY=1: without it onnxruntime sends telemetry");
      System.exit(1);
    }
    String json = new String(System.in.readAllBytes()).replaceAll("[\\[\\]\\s]", "");
    long[] promptIds = Arrays.stream(json.split(",")).mapToLong(Long::parseLong).toArray();
    float tau = Float.parseFloat(arguments[1]);
    long maxNewTokens = Long.parseLong(arguments[2]);

    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OrtSession session = environment.createSession(arguments[0]);
        OnnxTensor ids = OnnxTensor.createTensor(environment, new long[][] {promptIds});
        OnnxTensor threshold = OnnxTensor.createTensor(environment, tau);
        OnnxTensor limit = OnnxTensor.createTensor(environment, maxNewTokens);
        OrtSession.Result outcome =
            session.run(Map.of("input_ids", ids, "tau", threshold, "max_new_tokens", limit))) {
      long[] tokens = (long[]) outcome.get("token_ids").orElseThrow().getValue();
      float[] levels = (float[]) outcome.get("level_probabilities").orElseThrow().getValue();
      System.out.printf(
          "{\"token_ids\": %s, \"confidence\": %s, \"level_probabilities\": %s,"
              + " \"template_probability\": %s, \"deferred\": %s}%n",
          Arrays.toString(tokens),
          outcome.get("confidence").orElseThrow().getValue(),
          Arrays.toString(levels),
          outcome.get("template_probability").orElseThrow().getValue(),
          outcome.get("deferred").orElseThrow().getValue());
    }
  }
}
