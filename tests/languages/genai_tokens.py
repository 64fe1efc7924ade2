"""Write the tokens that onnxruntime-genai generates greedily from a bundle.

    python genai_tokens.py BUNDLE MAX_NEW_TOKENS < prompts.json

Runs in an environment of its own that has onnxruntime-genai.
"""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it loads onnxruntime

import onnxruntime_genai


def main(bundle: str, max_new_tokens: str) -> None:
    """Generate for each prompt of standard input."""
    config = onnxruntime_genai.Config(bundle)
    options = {"intra_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = onnxruntime_genai.Model(config)
    written = []
    for prompt in json.load(sys.stdin):
        parameters = onnxruntime_genai.GeneratorParams(model)
        length = len(prompt) + int(max_new_tokens)
        parameters.set_search_options(max_length=length, do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(prompt)
        tokens: list[int] = []
        while not generator.is_done() and len(tokens) < int(max_new_tokens):
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
        written.append(tokens)
    print(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:])
