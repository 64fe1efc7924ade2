"""The rows of the comparison: which engine, with which model, driven how."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One way to run one engine.

    Attributes:
        name: As the table shows it.
        package: The distribution whose version counts.
        venv: Its virtual environment; `foggen` is the one that runs the benchmark.
        module: Its driver, a module of `benchmarks.peers`.
        model: Name of its model in the workspace.
        option: Which way to drive it.
        reuses_prefix: Whether the cache of the prompt's constant prefix is kept or loaded.
    """

    name: str
    package: str
    venv: str
    module: str
    model: str
    option: str = ""
    reuses_prefix: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is our engine, with the decoding that it is about."""
        return self.venv == "foggen" and not self.option

    @property
    def writes_text(self) -> bool:
        """Whether every token has logits: with `--head choices` only a decision's and letters'."""
        return not self.model.endswith("-choices")

    @property
    def peer(self) -> bool:
        """Whether it is another's engine."""
        return self.venv != "foggen"


def _foggen(name: str, model: str, option: str = "") -> Row:
    snapshot = not model.endswith("-plain")
    return Row(name, "foggen", "foggen", "foggen", model, option, reuses_prefix=snapshot)


def _genai(name: str, model: str, option: str = "") -> Row:
    reuses = option.endswith("rewind")
    return Row(name, "onnxruntime-genai", "torch", "genai", model, option, reuses_prefix=reuses)


def _prefixed(name: str, engine: tuple[str, str], model: str, option: str = "") -> Row:
    package, venv = engine
    return Row(name, package, venv, venv, model, option, reuses_prefix=option == "prefix")


_LLAMACPP = ("llama-cpp-python", "llamacpp")
_OPENVINO = ("openvino-genai", "openvino")

ROWS = (
    _foggen("foggen int4, snapshot", "foggen-int4"),
    _foggen("foggen int4", "foggen-int4-plain"),
    _foggen("foggen int4, snapshot, `--head choices`", "foggen-int4-choices"),
    _foggen("foggen int8, snapshot", "foggen-int8"),
    _foggen("foggen int8", "foggen-int8-plain"),
    _foggen("foggen int8, snapshot, `--head choices`", "foggen-int8-choices"),
    _foggen("foggen int4, snapshot, `--decoding step`", "foggen-int4", "step"),
    _genai("onnxruntime-genai int4 b32, defaults", "genai-b32"),
    _genai("onnxruntime-genai int4 b128, pruned head", "genai-b128"),
    _genai("onnxruntime-genai int4 b128, guided", "genai-b128", "guided"),
    _genai("onnxruntime-genai int4 b128, guided, rewind", "genai-b128", "guided rewind"),
    _prefixed("llama.cpp Q4_0", _LLAMACPP, "llamacpp-q4_0.gguf"),
    _prefixed("llama.cpp Q4_0, prefix match", _LLAMACPP, "llamacpp-q4_0.gguf", "prefix"),
    _prefixed("llama.cpp Q8_0", _LLAMACPP, "llamacpp-q8_0.gguf"),
    _prefixed("OpenVINO GenAI int4 g128", _OPENVINO, "openvino-int4"),
    _prefixed("OpenVINO GenAI int4 g128, prefix caching", _OPENVINO, "openvino-int4", "prefix"),
    Row("transformers, torch bf16", "transformers", "torch", "torch_bf16", "checkpoint"),
)
