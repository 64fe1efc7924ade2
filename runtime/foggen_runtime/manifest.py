"""The manifest of a bundle, `foggen.json`: everything the runtime must know beside the weights.

The bundle's hash covers everything but `routing`: calibrating tau does not make another bundle.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from foggen_runtime.errors import BundleError
from foggen_runtime.files import sha256_file, write_text_atomically
from foggen_runtime.jsonio import FieldError, dumps, from_json, parse_json

MANIFEST_FILE = "foggen.json"
TOKENIZER_FILE = "tokenizer.json"
TOKEN_TABLES_FILE = "tokenizer.safetensors"
FORMAT_VERSION = 1

# What tau is compared with: the level that the model wrote, or the mean over all levels.
ConfidenceKind = Literal["verbalized", "expected"]


@dataclass(frozen=True)
class ModelInfo:
    """Where the weights come from, and the shape the runtime allocates its KV cache by."""

    name: str
    revision: str | None
    architecture: str
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    eos_token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("num_hidden_layers", "num_key_value_heads", "head_dim", "context_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, is {getattr(self, name)}")


@dataclass(frozen=True)
class KvCacheInfo:
    """Element type of the KV cache, and its scales where it is quantized."""

    dtype: str = "float32"
    scales: str | None = None


@dataclass(frozen=True)
class HeadInfo:
    """An output head of some tokens only, for constrained decoding of multiple-choice answers.

    Attributes:
        kind: `choices`: the template's tokens, the option letters and the ends.
        token_ids: The token of each column of the logits, in ascending order.
        answer_ids: The letters among them, of which the answer is one.
    """

    kind: Literal["choices"]
    token_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.token_ids) != sorted(set(self.token_ids)):
            raise ValueError("token_ids: must be in ascending order, each once, are not")
        if not self.answer_ids or not set(self.answer_ids) <= set(self.token_ids):
            raise ValueError(f"answer_ids: must be some of token_ids, are {list(self.answer_ids)}")


@dataclass(frozen=True)
class GraphInfo:
    """The ONNX graph, and what the runtime must know to drive it.

    Attributes:
        file: Its name.
        logits_tail: How many last positions of a pass get logits; `model.context_length` where
            all do.
        onnxruntime: The oldest version that runs it.
        kv_cache: Of what type past and present are.
        loop_file: The whole decoding loop as another graph over the same weights, if there is one.
        genai_file: onnxruntime-genai's graph over the same weights, if there is one.
        head: The tokens that get logits, if not all do.
        shared_cache: Whether past and present may be one buffer that the graph appends to.
        position_ids: Whether the tokens' positions are an input too.
    """

    file: str
    logits_tail: int
    onnxruntime: str
    kv_cache: KvCacheInfo = field(default_factory=KvCacheInfo)
    loop_file: str | None = None
    genai_file: str | None = None
    head: HeadInfo | None = None
    shared_cache: bool = True
    position_ids: bool = False

    def __post_init__(self) -> None:
        if self.logits_tail < 1:
            raise ValueError(f"logits_tail: must be at least 1, is {self.logits_tail}")


@dataclass(frozen=True)
class WeightFormat:
    """How one group of weights is stored and multiplied.

    Attributes:
        bits: Bits of a weight; 32 means not quantized at all.
        block_size: Weights along the input that share a scale; None for one scale per output.
        symmetric: Whether there are no zero points.
        accuracy_level: `MatMulNBits`' attribute: 4 rounds activations to int8 by block.
        activation_bits: Bits that activations are rounded to, with one scale per row, before an
            integer product; None where the operator decides.
    """

    bits: int
    block_size: int | None = None
    symmetric: bool | None = None
    accuracy_level: int | None = None
    activation_bits: int | None = None


@dataclass(frozen=True)
class QuantizationInfo:
    """The recipe by name, and what it did to each group of weights."""

    recipe: str
    groups: dict[str, WeightFormat]
    folding: str | None = None
    calibration_sha256: str | None = None


@dataclass(frozen=True)
class PromptInfo:
    """The chat template, taken apart around the question.

    The prompt is `prefix_ids`, then `question_prefix + question + question_suffix` encoded as
    plain text, then `suffix_ids`. Text on both sides of any other cut could merge in BPE.
    """

    system: str
    prefix_ids: tuple[int, ...]
    question_prefix: str
    question_suffix: str
    suffix_ids: tuple[int, ...]
    strip_question: bool = False


@dataclass(frozen=True)
class TemplateInfo:
    """What the model writes: a confidence level, a separator, then its answer."""

    levels: tuple[str, ...]
    level_ids: tuple[tuple[int, ...], ...]
    separator_ids: tuple[int, ...]
    answer_prefix: str
    answer_prefix_ids: tuple[int, ...]
    min_template_probability: float

    def __post_init__(self) -> None:
        if not self.levels or len(self.levels) != len(self.level_ids):
            raise ValueError(
                f"level_ids: must hold one id list for each of the {len(self.levels)} levels, "
                f"holds {len(self.level_ids)}"
            )
        if not 0 <= self.min_template_probability <= 1:
            raise ValueError(
                "min_template_probability: must be within [0, 1], "
                f"is {self.min_template_probability}"
            )

    @property
    def level_values(self) -> tuple[float, ...]:
        """The confidence levels as numbers."""
        return tuple(float(level) for level in self.levels)


@dataclass(frozen=True)
class PrefixSnapshotInfo:
    """The KV cache of `prompt.prefix_ids`; `key` says for which weights, tokenizer and prompt."""

    file: str
    dtype: str
    key: str


@dataclass(frozen=True)
class CalibrationInfo:
    """How tau was chosen, by `foggen calibrate`.

    Attributes:
        method: `observed` on the calibration questions, or `clopper-pearson`: guaranteed by exact
            binomial bounds.
        target: What was asked for: `max_cloud_share`, `min_accuracy`, `max_cost` or `max_risk`.
        limit: Its value.
        on: Which confidence tau is compared with.
        tau: The threshold.
        observed: The target's figure on the calibration questions.
        bound: What it is at worst on new questions; None without a certainty.
        certainty: Probability that the bound holds.
        questions: How many calibrated.
        data_sha256: Hash of their file.
        date: Day, ISO 8601.
        level_shares: Share of them with each level, in the template's order; what is missing to 1
            was malformed.
    """

    method: Literal["observed", "clopper-pearson"]
    target: str
    limit: float
    on: ConfidenceKind
    tau: float
    observed: float
    bound: float | None
    certainty: float | None
    questions: int
    data_sha256: str
    date: str
    level_shares: tuple[float, ...]


@dataclass(frozen=True)
class RoutingInfo:
    """The default tau, and the calibration that chose it (null until calibrated)."""

    tau: float
    calibration: CalibrationInfo | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau: must be within [0, 1], is {self.tau}")
        if self.calibration and self.calibration.tau != self.tau:
            raise ValueError(
                f"calibration.tau: must be the tau it chose, {self.tau}, is {self.calibration.tau}"
            )

    @property
    def on(self) -> ConfidenceKind:
        """Which confidence tau is compared with."""
        return self.calibration.on if self.calibration else "verbalized"


@dataclass(frozen=True)
class FileInfo:
    """Size and SHA-256 of one file of the bundle."""

    bytes: int
    sha256: str


def file_info(path: Path) -> FileInfo:
    """Measure and hash a file."""
    return FileInfo(path.stat().st_size, sha256_file(path))


@dataclass(frozen=True)
class Manifest:
    """The whole of `foggen.json`."""

    format_version: int
    model: ModelInfo
    graph: GraphInfo
    quantization: QuantizationInfo
    prompt: PromptInfo
    template: TemplateInfo
    prefix_snapshot: PrefixSnapshotInfo | None
    routing: RoutingInfo
    files: dict[str, FileInfo]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        for name in self.files:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"files: names must stay inside the bundle, one is {name!r}")
        if self.graph.file not in self.files:
            raise ValueError(f"graph.file: must be listed under files, is {self.graph.file!r}")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `foggen.json` from a bundle directory.

        Raises:
            BundleError: No manifest there, not valid JSON, a newer format, or a field is wrong.
        """
        path = directory / MANIFEST_FILE
        try:
            document = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(f"{directory}: is no bundle, it has no {MANIFEST_FILE}") from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error
        version = document.get("format_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise BundleError(
                f"{path}: format_version: this runtime reads up to {FORMAT_VERSION}, is {version}; "
                "upgrade foggen"
            )
        try:
            return from_json(cls, document, str(path))
        except FieldError as error:
            raise BundleError(str(error)) from error

    def save(self, directory: Path) -> None:
        """Write `foggen.json` into a bundle directory, in one step."""
        write_text_atomically(directory / MANIFEST_FILE, dumps(self, indent=2) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def sha256(self) -> str:
        """Hash of the bundle: of everything in the manifest (file hashes too) but `routing`."""
        covered = self.to_dict()
        del covered["routing"]
        canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()
