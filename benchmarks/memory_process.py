"""One start of our engine, in a process of its own: open a bundle, decide one question."""

import json
import sys
import time
from pathlib import Path


def memory_mb() -> dict[str, float]:
    """Return the resident set of this process by kind, and its largest so far."""
    wanted = {"VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "mapped"}
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {
        wanted[name]: int(value.split()[0]) * 1024 / 1e6 for name, value in pairs if name in wanted
    }


def main() -> None:
    """Do what standard input asks, and print times and memory as one JSON line."""
    request = json.load(sys.stdin)
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.model.engine import EngineOptions
    from foggen_runtime.model.local_model import LocalModel, OpenOptions

    engine = EngineOptions(threads=request["threads"])
    options = OpenOptions(engine, prepared=request["prepared"])
    model = LocalModel(Bundle.open(Path(request["bundle"])), options)
    ready, loaded = time.monotonic(), memory_mb()
    prompt = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, request["question"])
    decoder = model.decoder(Decoding())
    decoder.decide(prompt[model.prefix_length :])
    decided, after = time.monotonic(), memory_mb()
    status = model.prepared.status if model.prepared else None
    document = {"ready": ready, "decided": decided, "loaded": loaded, "after": after}
    print(json.dumps({**document, "prompt_tokens": len(prompt), "prepared": status}))


if __name__ == "__main__":
    main()
