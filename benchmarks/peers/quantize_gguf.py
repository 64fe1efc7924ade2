"""Quantize a GGUF file with llama.cpp's own quantizer."""

import ctypes
import sys

import llama_cpp

FORMATS = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}


def quantize(source: str, target: str, name: str) -> None:
    """Write `source` to `target` in the format of that name.

    Raises:
        RuntimeError: llama.cpp failed.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FORMATS[name]
    status = llama_cpp.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(parameters)
    )
    if status:
        raise RuntimeError(f"{source}: llama_model_quantize to {name} returned {status}")


if __name__ == "__main__":
    quantize(*sys.argv[1:])
