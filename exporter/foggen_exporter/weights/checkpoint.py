"""Reading a Hugging Face checkpoint directory, tensor by tensor and without torch."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

from foggen_exporter.architectures.qwen3_config import Qwen3Config, expected_tensors
from foggen_exporter.weights.checkpoint_files import read_configs, weight_files
from foggen_exporter.weights.tensor_files import Float32Array, TensorEntry, TensorFiles, same_values
from foggen_exporter.weights.tensor_names import check_merged, merged
from foggen_runtime.errors import CheckpointError

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

_LAYER = re.compile(r"model\.layers\.(\d+)\.")

HeadKind = Literal["tied", "untied"]


@dataclass(frozen=True)
class Architecture:
    """How the checkpoints of one architecture are read.

    Attributes:
        model_type: What transformers calls it.
        read_config: Reads a parsed `config.json`.
        expected_tensors: Gives the shapes of all tensors, by what `config.json` calls each size.
    """

    model_type: str
    read_config: Callable[[Mapping[str, object]], Qwen3Config]
    expected_tensors: Callable[[Qwen3Config], dict[str, dict[str, int]]]


ARCHITECTURES: Mapping[str, Architecture] = {
    "Qwen3ForCausalLM": Architecture("qwen3", Qwen3Config.from_config, expected_tensors),
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

    def take(self, name: str, indices: Sequence[int]) -> Float32Array:
        """Read single rows of a tensor, in the order of `indices`."""

    def check_finite(self) -> None:
        """Read all weights once, and check that they are finite."""

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
        document = read_configs(directory)
        architecture = _architecture_name(document)
        config = ARCHITECTURES[architecture].read_config(document)
        files = TensorFiles(weight_files(directory), merged)
        check_merged(directory, files.entries)
        _check_layer_count(config, files)
        expected = ARCHITECTURES[architecture].expected_tensors(config)
        if LM_HEAD not in files.entries:
            if not config.tie_word_embeddings:
                raise CheckpointError(
                    f"{directory}: tensors missing: {LM_HEAD}, which tie_word_embeddings (false) "
                    "in config.json asks for"
                )
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

    def take(self, name: str, indices: Sequence[int]) -> Float32Array:
        """Read single rows of a tensor as float32; raises as `rows` does."""
        return self.files.take(self._stored(name), indices)

    def check_finite(self) -> None:
        """Read all weights once; raises as `rows` does."""
        self.files.check_finite()

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

    def check_finite(self) -> None:
        """Read all of the base's weights once, and check that they are finite."""
        self.base.check_finite()

    @abstractmethod
    def take(self, name: str, indices: Sequence[int]) -> Float32Array:
        """Read single rows of a tensor as float32, in the order of `indices`."""

    def tensor(self, name: str) -> Float32Array:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.rows(name, 0, self.shape(name)[0])


def inner_class(name: str) -> str:
    """Return the class that FSDP was put around: transformers saves the name of both in one."""
    return name.removeprefix("FSDP")


def _architecture_name(document: Mapping[str, object]) -> str:
    names = document.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        name = inner_class(names[0])
        if name in ARCHITECTURES:
            return name
    raise CheckpointError(
        f"config.json: architectures: must be one of {', '.join(ARCHITECTURES)}, is {names!r}; "
        "--graph optimum exports others"
    )


def _check_layer_count(config: Qwen3Config, files: TensorFiles) -> None:
    """Hold the count against the weights, before the tensors of so many layers are named."""
    found = len({layer[1] for name in files.entries if (layer := _LAYER.match(name))})
    if config.num_hidden_layers != found:
        raise CheckpointError(
            f"config.json: num_hidden_layers: must be {found} as in the weights, is "
            f"{config.num_hidden_layers}; if that is right, some weights are missing"
        )


def _check_tensors(
    directory: Path,
    found: Mapping[str, TensorEntry],
    expected: Mapping[str, Mapping[str, int]],
) -> None:
    for what, names in (
        ("missing", [name for name in expected if name not in found]),
        ("not a part of this architecture", [name for name in found if name not in expected]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"{directory}: tensors {what}: {', '.join(names[:3])}{more}")
    for name, sizes in expected.items():
        if found[name].shape != tuple(sizes.values()):
            raise CheckpointError(
                f"{found[name].path}: {name}: shape must be {list(sizes.values())} by config.json "
                f"({', '.join(sizes)}), is {list(found[name].shape)}"
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
