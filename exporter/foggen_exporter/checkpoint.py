"""Reading a Hugging Face checkpoint directory, tensor by tensor and without torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from foggen_exporter.architectures.qwen3_config import Qwen3Config, expected_tensors
from foggen_exporter.tensor_files import Float32Array, TensorEntry, TensorFiles, same_values
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import parse_json

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

HeadKind = Literal["tied", "untied"]


@dataclass(frozen=True)
class Architecture:
    """How the checkpoints of one architecture are read."""

    read_config: Callable[[Mapping[str, object]], Qwen3Config]
    expected_tensors: Callable[[Qwen3Config], dict[str, tuple[int, ...]]]


ARCHITECTURES: Mapping[str, Architecture] = {
    "Qwen3ForCausalLM": Architecture(Qwen3Config.from_config, expected_tensors),
}


class TensorSource(Protocol):
    """What exporting reads from: a checkpoint, or one with an adapter merged into it.

    `lm_head` is "tied" where the output projection's weights are the embedding's;
    `lm_head.weight` can be read either way.
    """

    @property
    def directory(self) -> Path:
        """Where the tokenizer files are."""

    @property
    def architecture(self) -> str:
        """The class name in `config.json`, a key of `ARCHITECTURES`."""

    @property
    def config(self) -> Qwen3Config:
        """The model's shape."""

    @property
    def lm_head(self) -> HeadKind:
        """Whether the output projection shares the embedding's weights."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show to the user."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""

    def tensor(self, name: str) -> Float32Array:
        """Read a whole tensor."""

    def rows(self, name: str, start: int, stop: int) -> Float32Array:
        """Read rows `start` to `stop` of a tensor, along its first axis."""

    def weights_sha256(self) -> str:
        """Hash the weights, however they are spread over files."""


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint directory; a `TensorSource`."""

    directory: Path
    architecture: str
    config: Qwen3Config
    lm_head: HeadKind
    warnings: tuple[str, ...]
    files: TensorFiles

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read the configuration and the headers of the weight files, and check them.

        Raises:
            CheckpointError: A file is missing, broken or of a kind that is not supported, or the
                tensors are not those that `config.json` asks for.
        """
        document = _read_configs(directory)
        architecture = _architecture_name(document)
        config = ARCHITECTURES[architecture].read_config(document)
        files = TensorFiles(weight_files(directory))
        expected = ARCHITECTURES[architecture].expected_tensors(config)
        if config.tie_word_embeddings and LM_HEAD not in files.entries:
            del expected[LM_HEAD]
        _check_tensors(directory, files.entries, expected)
        files.check_dtypes()
        head, warnings = _judge_head(files, config)
        return cls(directory, architecture, config, head, warnings, files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.files.entries[self._stored(name)].shape

    def rows(self, name: str, start: int, stop: int) -> Float32Array:
        """Read rows `start` to `stop` of a tensor as float32.

        Raises:
            CheckpointError: The file cannot be read any more, or a value is NaN or infinite.
        """
        return self.files.rows(self._stored(name), start, stop)

    def tensor(self, name: str) -> Float32Array:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.files.tensor(self._stored(name))

    def weights_sha256(self) -> str:
        """Hash names, dtypes, shapes and bytes of all tensors, however they are sharded."""
        return self.files.sha256()

    def _stored(self, name: str) -> str:
        return EMBEDDING if name == LM_HEAD and self.lm_head == "tied" else name


@dataclass(frozen=True)
class DerivedCheckpoint(ABC):
    """What a checkpoint with other weights takes over from the one it is made of.

    Attributes:
        base: The checkpoint as it was.
    """

    base: TensorSource

    @property
    def directory(self) -> Path:
        """Where the tokenizer files are: with the base."""
        return self.base.directory

    @property
    def architecture(self) -> str:
        """The base's architecture."""
        return self.base.architecture

    @property
    def config(self) -> Qwen3Config:
        """The base's configuration."""
        return self.base.config

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.base.shape(name)

    @abstractmethod
    def rows(self, name: str, start: int, stop: int) -> Float32Array:
        """Read rows `start` to `stop` of a tensor as float32."""

    def tensor(self, name: str) -> Float32Array:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.rows(name, 0, self.shape(name)[0])


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CheckpointError: The file cannot be read or holds something else.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: must hold an object, holds {type(document).__name__}")
    return document


def _read_configs(directory: Path) -> dict[str, Any]:
    """Return `config.json` with the `eos_token_id` that generating uses."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory")
    if not (directory / "config.json").exists():
        hint = ""
        if (directory / "adapter_config.json").exists():
            hint = "; this is an adapter: export its base checkpoint with --adapter"
        raise CheckpointError(f"{directory}: is no checkpoint, it has no config.json{hint}")
    document = read_json_object(directory / "config.json")
    generation = directory / "generation_config.json"
    if generation.exists():
        eos = read_json_object(generation).get("eos_token_id")
        if eos is not None:
            document["eos_token_id"] = eos
    return document


def _architecture_name(document: Mapping[str, object]) -> str:
    names = document.get("architectures")
    if isinstance(names, list) and len(names) == 1 and names[0] in ARCHITECTURES:
        return str(names[0])
    raise CheckpointError(
        f"config.json: architectures: must be one of {', '.join(ARCHITECTURES)}, is {names!r}; "
        "--graph optimum exports others"
    )


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint, shards in the order of their names.

    Raises:
        CheckpointError: There are none, or the index of the shards is broken.
    """
    single = directory / "model.safetensors"
    if single.exists():
        return [single]
    index = directory / "model.safetensors.index.json"
    if index.exists():
        return _shards(index)
    others = sorted(path.name for path in directory.glob("*.bin"))
    if others:
        raise CheckpointError(
            f"{directory}: has no model.safetensors but {others[0]}, which is a pickle; load it "
            "with transformers and save it with save_pretrained, which writes safetensors"
        )
    raise CheckpointError(
        f"{directory}: has neither model.safetensors nor model.safetensors.index.json"
    )


def _shards(index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map: must be an object of file names")
    paths = []
    for name in sorted({str(name) for name in weight_map.values()}):
        if Path(name).name != name:
            raise CheckpointError(
                f"{index}: weight_map: must hold plain file names, holds {name!r}"
            )
        paths.append(index.parent / name)
    return paths


def _check_tensors(
    directory: Path,
    found: Mapping[str, TensorEntry],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
    for what, names in (
        ("missing", [name for name in expected if name not in found]),
        ("not a part of this architecture", [name for name in found if name not in expected]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"{directory}: tensors {what}: {', '.join(names[:3])}{more}")
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"{found[name].path}: {name}: shape must be {list(shape)} by config.json, "
                f"is {list(found[name].shape)}"
            )


def _judge_head(files: TensorFiles, config: Qwen3Config) -> tuple[HeadKind, tuple[str, ...]]:
    """Decide by the weights, as transformers 5 does: the flag only says whether one may lack."""
    if LM_HEAD not in files.entries:
        return "tied", ()
    if same_values(files.rows, (EMBEDDING, LM_HEAD), files.entries[LM_HEAD].shape):
        return "tied", ()
    if not config.tie_word_embeddings:
        return "untied", ()
    return "untied", (
        f"config.json says tie_word_embeddings, but {LM_HEAD} differs from {EMBEDDING}: "
        "both are exported, as transformers 5 loads them; transformers 4 would drop the former",
    )
