"""Reading a Hugging Face checkpoint directory, tensor by tensor and without torch."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foggen_exporter.architectures.config import EMBEDDING, LM_HEAD
from foggen_exporter.architectures.decoder import Decoder, TensorSource
from foggen_exporter.architectures.registry import ARCHITECTURES
from foggen_exporter.weights.checkpoint_files import read_configs, weight_files
from foggen_exporter.weights.tensor_files import (
    TensorEntry,
    TensorFiles,
    WeightFiles,
    row_chunks,
    same_values,
)
from foggen_exporter.weights.tensor_names import check_merged, merged
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
# A buffer that former versions of transformers saved, as in Llama 2's checkpoints; it follows from
# the configuration, and is not read.
_FREQUENCIES = ".rotary_emb.inv_freq"


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint directory; a `TensorSource`."""

    directory: Path
    architecture: str
    config: Decoder
    tied: bool
    warnings: tuple[str, ...]
    files: WeightFiles

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read the configuration and the headers of the weight files, and check them.

        Raises:
            CheckpointError: A file is missing, broken or of a kind that is not supported, or the
                tensors are not those that `config.json` asks for.
        """
        document = read_configs(directory)
        _architecture_name(document)  # said before anything of the weights
        files = TensorFiles(weight_files(directory), merged)
        check_merged(directory, files.entries)
        return cls.of(directory, document, files)

    @classmethod
    def of(cls, directory: Path, document: Mapping[str, object], files: WeightFiles) -> Self:
        """Check that a configuration and weights go together.

        Args:
            directory: Where the tokenizer files are.
            document: What `config.json` says.
            files: The weights, by transformers' names.

        Raises:
            CheckpointError: The model is of a kind that is not supported, or the tensors are not
                those that the configuration asks for.
        """
        architecture = _architecture_name(document)
        config = ARCHITECTURES[architecture].from_config(document)
        _check_layer_count(config, files)
        expected = config.expected_tensors()
        if LM_HEAD not in files.entries:
            if not config.tie_word_embeddings:
                raise CheckpointError(
                    f"{directory}: tensors missing: {LM_HEAD}, which tie_word_embeddings (false) "
                    "in config.json asks for"
                )
            del expected[LM_HEAD]
        _check_tensors(directory, files.entries, expected)
        files.check_dtypes()
        tied, warnings = _judge_head(files, config)
        return cls(directory, architecture, config, tied, warnings, files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.files.entries[self._stored(name)].shape

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a tensor as float32.

        Raises:
            CheckpointError: The file cannot be read any more, or a value is NaN or infinite.
        """
        return self.config.as_computed(name, self.files.rows(self._stored(name), start, stop))

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor as float32; raises as `rows` does."""
        return self.config.as_computed(name, self.files.take(self._stored(name), indices))

    def chunks(self, names: Sequence[str]) -> Iterator[Float32]:
        """Read matrices one below the other, some rows at a time; raises as `rows` does."""
        return row_chunks(
            self.files.rows, {self._stored(name): self.shape(name)[0] for name in names}
        )

    def check_finite(self) -> None:
        """Read all weights once; raises as `rows` does."""
        self.files.check_finite()

    def tensor(self, name: str) -> Float32:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.rows(name, 0, self.shape(name)[0])

    def weights_sha256(self) -> str:
        """Hash names, dtypes, shapes and bytes of all tensors, however they are sharded."""
        return self.files.sha256()

    def _stored(self, name: str) -> str:
        return EMBEDDING if name == LM_HEAD and self.tied else name


@dataclass(frozen=True)
class DerivedCheckpoint(ABC):
    """What a checkpoint with changed weights inherits from the original.

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
    def config(self) -> Decoder:
        """The base's configuration."""
        return self.base.config

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.base.shape(name)

    @abstractmethod
    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a tensor as float32."""

    def check_finite(self) -> None:
        """Read all of the base's weights once, and check that they are finite."""
        self.base.check_finite()

    @abstractmethod
    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor as float32, in the order of `indices`."""

    def tensor(self, name: str) -> Float32:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.rows(name, 0, self.shape(name)[0])

    def chunks(self, names: Sequence[str]) -> Iterator[Float32]:
        """Read matrices one below the other, some rows at a time; raises as `rows` does."""
        return row_chunks(self.rows, {name: self.shape(name)[0] for name in names})


def inner_class(name: str) -> str:
    """Return the class that FSDP wrapped: transformers saves both names as one."""
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


def _check_layer_count(config: Decoder, files: WeightFiles) -> None:
    """Check the number of layers against the weights, before naming the tensors of so many."""
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
        (
            "not part of this architecture",
            [name for name in found if name not in expected and not name.endswith(_FREQUENCIES)],
        ),
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


def _judge_head(files: WeightFiles, config: Decoder) -> tuple[bool, tuple[str, ...]]:
    """Decide whether the head is tied, and what to say about it.

    The weights decide, as in transformers 5: the flag only says whether one may be missing.
    """
    if LM_HEAD not in files.entries:
        return True, ()
    if same_values(files.rows, (EMBEDDING, LM_HEAD), files.entries[LM_HEAD].shape):
        return True, ()
    if not config.tie_word_embeddings:
        return False, ()
    return False, (
        f"config.json says tie_word_embeddings, but {LM_HEAD} differs from {EMBEDDING}: "
        "both are exported, as transformers 5 loads them; transformers 4 would drop the head",
    )
