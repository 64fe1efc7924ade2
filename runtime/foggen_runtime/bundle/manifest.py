"""The manifest of a bundle, `foggen.json`: everything the runtime must know besides the weights.

The bundle's hash covers everything but `routing`: calibrating tau leaves it the same bundle.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from foggen_runtime.errors import BundleError
from foggen_runtime.files import lies_inside, read_small_text, sha256_file, write_text_atomically
from foggen_runtime.jsonio import FieldError, dumps, from_json, parse_json, shown

MANIFEST_FILE = "foggen.json"
TOKENIZER_FILE = "tokenizer.json"
TOKEN_TABLES_FILE = "tokenizer.safetensors"
# What `foggen tune` found on a device: next to the bundle's files, not one of them.
DEVICE_PROFILE_FILE = "device.json"
GRAPH_SUFFIX = ".onnx"
_SNAPSHOT_SUFFIX = ".npy"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 8 << 20
CACHE_DTYPE = "float32"

# Far above any model for a device; they keep a wrong number from claiming all memory.
_MAX_LAYERS = _MAX_HEADS = _MAX_HEAD_DIM = 4096
_MAX_TOKENS = 1 << 24
_MAX_CACHE_BYTES = 1 << 26  # of one token's keys and values
_MAX_FILE_BYTES = 1 << 50

_LEVEL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What some file systems refuse; and to onnxruntime, `*` in a name has a meaning of its own.
_NOT_IN_NAMES = frozenset('\\:*?"<>|')

# What tau is compared with: the level that the model wrote, or the mean over all levels.
ConfidenceKind = Literal["verbalized", "expected"]


@dataclass(frozen=True)
class ModelInfo:
    """Where the weights come from, and the sizes that the runtime allocates its KV cache with."""

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
        _check_range("num_hidden_layers", self.num_hidden_layers, _MAX_LAYERS)
        _check_range("num_attention_heads", self.num_attention_heads, _MAX_HEADS)
        _check_range("num_key_value_heads", self.num_key_value_heads, _MAX_HEADS)
        _check_range("head_dim", self.head_dim, _MAX_HEAD_DIM)
        _check_range("vocab_size", self.vocab_size, _MAX_TOKENS)
        _check_range("context_length", self.context_length, _MAX_TOKENS)
        size = 2 * 4 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
        if size > _MAX_CACHE_BYTES:
            raise ValueError(
                "num_hidden_layers, num_key_value_heads and head_dim: must give a KV cache of at "
                f"most {_MAX_CACHE_BYTES} bytes for a token, give {size}"
            )


@dataclass(frozen=True)
class KvCacheInfo:
    """Element type of the KV cache, and its scales if it is quantized."""

    dtype: str = CACHE_DTYPE
    scales: str | None = None

    def __post_init__(self) -> None:
        if self.dtype != CACHE_DTYPE:
            raise ValueError(f"dtype: must be {CACHE_DTYPE}, is {self.dtype!r}; upgrade foggen")
        if self.scales is not None:
            raise ValueError(f"scales: must be null with dtype {CACHE_DTYPE}, is {self.scales!r}")


@dataclass(frozen=True)
class HeadInfo:
    """A reduced output head, for constrained decoding of multiple-choice answers.

    Attributes:
        kind: `choices`: the template's tokens, the option letters and the ends.
        token_ids: The token of each column of the logits, in ascending order.
        answer_ids: The letters among them, one of which is the answer.
    """

    kind: Literal["choices"]
    token_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.token_ids) != sorted(set(self.token_ids)):
            raise ValueError("token_ids: must be in ascending order without repetition, are not")
        if not self.answer_ids or not set(self.answer_ids) <= set(self.token_ids):
            raise ValueError(f"answer_ids: must be some of token_ids, are {list(self.answer_ids)}")


@dataclass(frozen=True)
class GraphInfo:
    """The ONNX graph, and what the runtime must know to drive it.

    Attributes:
        file: Its name.
        logits_tail: How many of a pass's last positions get logits; `model.context_length` if all
            do.
        onnxruntime: The oldest version that runs it.
        kv_cache: The type of past and present.
        loop_file: A second graph over the same weights, the whole decoding loop, if there is one.
        genai_file: onnxruntime-genai's graph over the same weights, if there is one.
        head: The tokens that get logits, if not all do.
        shared_cache: Whether past and present may be one buffer that the graph appends to.
        position_ids: Whether the tokens' positions are also an input.
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
        _check_range("logits_tail", self.logits_tail, _MAX_TOKENS)
        if not _VERSION.fullmatch(self.onnxruntime):
            raise ValueError(
                f"onnxruntime: must be a version such as 1.27, is {self.onnxruntime!r}"
            )
        for name in ("file", "loop_file", "genai_file"):
            file = getattr(self, name)
            if file is not None and not file.endswith(GRAPH_SUFFIX):
                raise ValueError(f"{name}: must end in {GRAPH_SUFFIX}, is {file!r}")


@dataclass(frozen=True)
class WeightFormat:
    """How one group of weights is stored and multiplied.

    Attributes:
        bits: Bits of a weight; 32 means not quantized at all.
        block_size: Weights along the input that share a scale; None for one scale per output.
        symmetric: Whether there are no zero points.
        accuracy_level: `MatMulNBits`' attribute: 4 rounds activations to int8 by block.
        activation_bits: Bits that activations are rounded to, with one scale per row, before an
            integer product; None if the operator decides.
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
    plain text, then `suffix_ids`. Anywhere else, BPE could merge the text on both sides of the cut.
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
        self._check_levels()
        self._check_paths()

    def _check_levels(self) -> None:
        for level in self.levels:
            if not _LEVEL.fullmatch(level) or not 0 <= float(level) <= 1:
                raise ValueError(f"levels: must be numbers within [0, 1], has {level!r}")
        if list(self.level_values) != sorted(set(self.level_values)):
            raise ValueError(f"levels: must be in ascending order, are {', '.join(self.levels)}")

    def _check_paths(self) -> None:
        if not self.separator_ids:
            raise ValueError("separator_ids: must hold at least one id, which ends a level")
        paths = [(*ids, *self.separator_ids) for ids in self.level_ids]
        for ids, path in zip(self.level_ids, paths, strict=True):
            begun = sum(other[: len(path)] == path for other in paths)
            if not ids or begun > 1:
                raise ValueError(
                    f"level_ids: must not be empty, and no level may begin with another; "
                    f"{list(ids)} breaks that"
                )

    @cached_property
    def level_values(self) -> tuple[float, ...]:
        """The confidence levels as numbers."""
        return tuple(float(level) for level in self.levels)


@dataclass(frozen=True)
class PrefixSnapshotInfo:
    """The KV cache of `prompt.prefix_ids`; `key` says for which weights, tokenizer and prompt."""

    file: str
    dtype: str
    key: str

    def __post_init__(self) -> None:
        if self.dtype != CACHE_DTYPE:
            raise ValueError(f"dtype: must be {CACHE_DTYPE}, is {self.dtype!r}; upgrade foggen")
        if not self.file.endswith(_SNAPSHOT_SUFFIX):
            raise ValueError(f"file: must end in {_SNAPSHOT_SUFFIX}, is {self.file!r}")


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
        bound: Its worst case on new questions; None without a certainty.
        certainty: Probability that the bound holds.
        questions: How many there were.
        data_sha256: Hash of their file.
        date: Day, ISO 8601.
        level_shares: Share of them with each level, in the template's order; the rest up to 1 was
            malformed.
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

    def __post_init__(self) -> None:
        _check_range("bytes", self.bytes, _MAX_FILE_BYTES, least=0)
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: must be 64 digits of 0-9 and a-f, is {self.sha256!r}")


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
        if self.format_version != FORMAT_VERSION:
            raise ValueError(
                f"format_version: this runtime reads {FORMAT_VERSION}, is {self.format_version}"
            )
        self._check_files()
        for name, ids in self._ids():
            _check_ids(name, ids, self.model.vocab_size)
        context = self.model.context_length
        if self.graph.logits_tail > context:
            raise ValueError(
                f"graph.logits_tail: must be at most model.context_length {context}, "
                f"is {self.graph.logits_tail}"
            )
        constant = len(self.prompt.prefix_ids) + len(self.prompt.suffix_ids)
        if constant >= context:
            raise ValueError(
                f"model.context_length: must be above the prompt's {constant} constant tokens, "
                f"is {context}"
            )

    def _check_files(self) -> None:
        """Check the names, and that every file that is read is listed."""
        for name in self.files:
            check_file_name(name)
        snapshot = self.prefix_snapshot
        read = {
            "graph.file": self.graph.file,
            "graph.loop_file": self.graph.loop_file,
            "graph.genai_file": self.graph.genai_file,
            "prefix_snapshot.file": snapshot.file if snapshot else None,
        }
        for field_name, read_name in read.items():
            if read_name is not None and read_name not in self.files:
                raise ValueError(f"{field_name}: must be listed under files, is {read_name!r}")
        if TOKENIZER_FILE not in self.files:
            raise ValueError(f"files: must list {TOKENIZER_FILE}, does not")

    def _ids(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Yield every list of token ids with its name."""
        yield "model.eos_token_ids", self.model.eos_token_ids
        yield "prompt.prefix_ids", self.prompt.prefix_ids
        yield "prompt.suffix_ids", self.prompt.suffix_ids
        for index, ids in enumerate(self.template.level_ids):
            yield f"template.level_ids[{index}]", ids
        yield "template.separator_ids", self.template.separator_ids
        yield "template.answer_prefix_ids", self.template.answer_prefix_ids
        if self.graph.head:
            yield "graph.head.token_ids", self.graph.head.token_ids

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `foggen.json` from a bundle directory.

        Raises:
            BundleError: There is no manifest, it is not JSON or of a newer format, or a field is
                wrong.
        """
        path = directory / MANIFEST_FILE
        try:
            if not lies_inside(path, directory):
                raise BundleError(
                    f"{path}: must lie inside the bundle, is a link that leads out of it"
                )
            document = parse_json(read_small_text(path, MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            raise BundleError(f"{directory}: is not a bundle, it has no {MANIFEST_FILE}") from None
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
        write_text_atomically(directory / MANIFEST_FILE, self.to_text())

    def to_text(self) -> str:
        """Return what `foggen.json` holds."""
        return dumps(self, indent=2) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def sha256(self) -> str:
        """Hash of the bundle: of the whole manifest, file hashes included, except `routing`."""
        covered = self.to_dict()
        del covered["routing"]
        canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _check_range(name: str, value: int, most: int, *, least: int = 1) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: must be within [{least}, {most}], is {shown(value)}")


def _check_ids(name: str, ids: Iterable[int], vocab_size: int) -> None:
    for token in ids:
        if not 0 <= token < vocab_size:
            raise ValueError(
                f"{name}: ids must be within [0, model.vocab_size), which is {vocab_size}; one "
                f"is {shown(token)}"
            )


def check_file_name(name: str) -> None:
    """Check that a name works on every system and stays inside the bundle.

    Raises:
        ValueError: It leads out of the bundle, some system refuses it, or it is reserved.
    """
    parts = name.split("/")
    if not all(parts) or any(part.startswith(".") for part in parts):
        raise ValueError(
            "files: names must stay inside the bundle, and no part may be empty or begin with a "
            f"full stop; one is {name!r}"
        )
    if not name.isprintable() or _NOT_IN_NAMES & set(name):
        raise ValueError(
            f"files: names must not contain any of {' '.join(sorted(_NOT_IN_NAMES))} or control "
            f"characters; one is {name!r}"
        )
    if name.casefold() in (MANIFEST_FILE, DEVICE_PROFILE_FILE):
        raise ValueError(f"files: must not list {name}, which is not part of the bundle")
