"""Make every engine's model from the random checkpoint, with that engine's own tools."""

import argparse
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.venvs import PACKAGES
from benchmarks.workspace import Workspace, run, workspace_argument

BUNDLES = {
    "foggen-int4": ["--quant", "int4"],
    "foggen-int4-plain": ["--quant", "int4", "--no-prefix-snapshot"],
    "foggen-int4-choices": ["--quant", "int4", "--head", "choices"],
    "foggen-int8": ["--quant", "int8"],
    "foggen-int8-plain": ["--quant", "int8", "--no-prefix-snapshot"],
    "foggen-int8-choices": ["--quant", "int8", "--head", "choices"],
}
GENAI_OPTIONS: dict[str, list[str]] = {
    "genai-b32": [],
    "genai-b128": [
        "block_size=128",
        "accuracy_level=4",
        "shared_embeddings=true",
        "prune_lm_head=true",
    ],
}
GGUF_FORMATS = {"llamacpp-q4_0.gguf": "Q4_0", "llamacpp-q8_0.gguf": "Q8_0"}


def make_bundle(workspace: Workspace, name: str) -> None:
    """Export one of our bundles."""
    exporter = Path(sys.executable).with_name("foggen-export")
    run(exporter, workspace.checkpoint, *BUNDLES[name], "-o", workspace.model(name))


def make_genai(workspace: Workspace, name: str) -> None:
    """Run onnxruntime-genai's builder."""
    target = workspace.model(name)
    cache = workspace.root / "cache"
    command = [workspace.python("torch"), "-m", "onnxruntime_genai.models.builder"]
    paths = ["-i", workspace.checkpoint, "-o", target, "-c", cache]
    options = GENAI_OPTIONS[name]
    extra = ["--extra_options", *options] if options else []
    run(*command, *paths, "-p", "int4", "-e", "cpu", *extra)


def make_gguf(workspace: Workspace, name: str) -> None:
    """Convert to 16 bits with llama.cpp's script, and quantize."""
    full = workspace.model("llamacpp-f16.gguf")
    if not full.exists():
        script = _converter(workspace)
        arguments = [workspace.checkpoint_4x, "--outtype", "f16", "--outfile", full]
        run(workspace.python("torch"), script, *arguments)
    quantizer = [workspace.python("llamacpp"), "-m", "benchmarks.peers.quantize_gguf"]
    run(*quantizer, full, workspace.model(name), GGUF_FORMATS[name])


def make_openvino(workspace: Workspace, name: str) -> None:
    """Export with optimum-intel."""
    tool = workspace.venv("openvino") / "bin" / "optimum-cli"
    command = [tool, "export", "openvino", "-m", workspace.checkpoint]
    format_options = ["--weight-format", "int4", "--group-size", "128", "--ratio", "1.0", "--sym"]
    task = ["--task", "text-generation-with-past"]
    run(*command, *task, *format_options, workspace.model(name))


def _converter(workspace: Workspace) -> Path:
    """Return llama.cpp's converter, taken from the source package of the bindings."""
    package = PACKAGES["llamacpp"][0]
    script = workspace.sources / "llama.cpp" / "convert_hf_to_gguf.py"
    if not script.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run(*pip, "--no-binary", ":all:", "-d", workspace.sources, package)
        with tarfile.open(next(workspace.sources.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(workspace.sources, filter="data")
        vendored = next(workspace.sources.glob("llama_cpp_python-*/vendor/llama.cpp"))
        vendored.rename(workspace.sources / "llama.cpp")
    return script


MAKERS: dict[str, Callable[[Workspace, str], None]] = {
    **dict.fromkeys(BUNDLES, make_bundle),
    **dict.fromkeys(GENAI_OPTIONS, make_genai),
    **dict.fromkeys(GGUF_FORMATS, make_gguf),
    "openvino-int4": make_openvino,
}


def main() -> None:
    """Make the models that are named, or those that are missing; our own always anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(MAKERS)}")
    arguments = parser.parse_args()
    workspace: Workspace = arguments.work
    workspace.model("").mkdir(parents=True, exist_ok=True)
    for name in arguments.names or MAKERS:
        if name in BUNDLES:
            shutil.rmtree(workspace.model(name), ignore_errors=True)
        if not workspace.model(name).exists():
            MAKERS[name](workspace, name)


if __name__ == "__main__":
    main()
