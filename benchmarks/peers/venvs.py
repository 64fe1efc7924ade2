"""Make the peers' virtual environments, each with pinned versions."""

import argparse
import os
import sys

from benchmarks.workspace import Workspace, run, workspace_argument

# `torch` serves transformers, onnxruntime-genai and llama.cpp's converter, which share versions.
PACKAGES = {
    "torch": [
        "onnxruntime-genai==0.18.0",
        "onnxruntime==1.32.0",
        "transformers==5.23.0",
        "torch==2.13.0",
        "onnx",
        "onnx-ir",
        "sentencepiece",
    ],
    "llamacpp": ["llama-cpp-python==0.3.36", "diskcache"],
    "openvino": [
        "openvino-genai==2026.4.1",
        "optimum-intel==2.2.0",
        "nncf==3.4.*",
        "transformers==5.5.*",
        "torch==2.13.0",
    ],
}


def make(workspace: Workspace, name: str) -> None:
    """Make one environment; llama.cpp is compiled for this machine, which takes a while."""
    os.environ["CMAKE_ARGS"] = "-DGGML_NATIVE=ON"
    run(sys.executable, "-m", "venv", workspace.venv(name))
    pip = [workspace.python(name), "-m", "pip"]
    run(*pip, "install", "--quiet", *PACKAGES[name])
    if name == "openvino":  # comes along, and breaks the export
        run(*pip, "uninstall", "--quiet", "--yes", "torchvision")


def main() -> None:
    """Make the environments that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(PACKAGES)}")
    arguments = parser.parse_args()
    for name in arguments.names or PACKAGES:
        make(arguments.work, name)


if __name__ == "__main__":
    main()
