"""The shape of a decoder-only language model, as `config.json` says it, and what follows from it.

Here is what nearly all families have in common: attention and a gated MLP, a norm before each. A
family says where it differs.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from foggen_exporter.architectures.channels import Channels
from foggen_exporter.graphs.matrix import Shape, stacked_shape
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json, shortened

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

Sizes = dict[str, int]  # a tensor's shape, by what `config.json` calls each size

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
# onnxruntime's GroupQueryAttention refuses others when it runs.
_HEAD_DIM_MULTIPLE = 16
# What no family here has.
_NEVER_BUILT = ("quantization_config", "attn_logit_softcapping", "final_logit_softcapping")
_FLOAT32 = np.finfo(np.float32)
_FULL_ATTENTION = "full_attention"


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a model; fields are named as in `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]

    # What transformers calls the family, and what onnxruntime-genai does.
    model_type: ClassVar[str]
    genai_type: ClassVar[str]
    # Of the fields that some checkpoints leave out, the only value that is built.
    only_built: ClassVar[Mapping[str, object]]
    layer_types_built: ClassVar[tuple[str, ...]] = ("full_attention",)
    rope_types_built: ClassVar[tuple[str, ...]] = ("default",)
    # The matrices that a layer multiplies with, each of tensors one below the other.
    matrices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "o_proj": ("self_attn.o_proj",),
        "gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        "down_proj": ("mlp.down_proj",),
    }
    # The norm before the MLP.
    mlp_norm: ClassVar[str] = "post_attention_layernorm"

    def layer_vectors(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's norms, and of biases, without `model.layers.0.`."""
        hidden = {"hidden_size": self.hidden_size}
        return {"input_layernorm.weight": hidden, f"{self.mlp_norm}.weight": hidden}

    def layer_matrices(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's matrices, without `model.layers.0.`."""
        hidden = {"hidden_size": self.hidden_size}
        inner = {"intermediate_size": self.intermediate_size}
        queries = {"num_attention_heads * head_dim": self.num_attention_heads * self.head_dim}
        keys = {"num_key_value_heads * head_dim": self.num_key_value_heads * self.head_dim}
        return {
            "self_attn.q_proj.weight": queries | hidden,
            "self_attn.k_proj.weight": keys | hidden,
            "self_attn.v_proj.weight": keys | hidden,
            "self_attn.o_proj.weight": hidden | queries,
            "mlp.gate_proj.weight": inner | hidden,
            "mlp.up_proj.weight": inner | hidden,
            "mlp.down_proj.weight": hidden | inner,
        }

    def layer_channels(self, index: int) -> tuple[Channels, ...]:
        """Return the channels inside a layer that may be scaled: it computes the same.

        From norms to products, from values to o, and from up to down. Folded values are scaled in
        the KV cache too.
        """
        heads = (self.num_key_value_heads, self.num_attention_heads // self.num_key_value_heads)
        layer, product = f"model.layers.{index}", f"layers.{index}"
        q, k, v, o = (f"{layer}.self_attn.{part}_proj.weight" for part in "qkvo")
        gate, up, down = (f"{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
        before, middle = f"{layer}.input_layernorm.weight", f"{layer}.{self.mlp_norm}.weight"
        bias = "self_attn.v_proj.bias"
        values = (v, f"{layer}.{bias}") if bias in self.layer_vectors() else (v,)
        return (
            Channels(f"{product}.qkv_proj", (before,), (q, k, v)),
            Channels(f"{product}.o_proj", values, (o,), heads),
            Channels(f"{product}.gate_up_proj", (middle,), (gate, up)),
            Channels(f"{product}.down_proj", (up,), (down,)),
        )

    @property
    def embedding_scale(self) -> float:
        """What rows of the embedding are multiplied with."""
        return 1.0

    def rotary_frequencies(self) -> dict[str, Float32]:
        """Return radians per position for each pair of rotated values, by the tables' name."""
        return {"rotary": self.frequencies(self.rope_theta)}

    def frequencies(self, theta: float) -> Float32:
        """Return radians per position for each pair of rotated values, (head_dim / 2,).

        In float32 throughout, as transformers computes them: 1 / theta^(2i / head_dim).
        """
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float32) / np.float32(self.head_dim)
        frequencies: Float32 = np.float32(1) / np.power(np.float32(theta), exponents)
        return frequencies

    def as_computed(self, tensor: str, stored: Float32) -> Float32:
        """Return what a tensor's values are in the graph, as with gains that are stored less 1."""
        return stored

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, is {getattr(self, name)}")
        # Beyond these, values overflow or vanish in float32.
        for name, smallest in (("rms_norm_eps", float(_FLOAT32.tiny)), ("rope_theta", 1.0)):
            value = getattr(self, name)
            if not smallest <= value <= float(_FLOAT32.max):
                raise ValueError(
                    f"{name}: must be positive, at least {smallest:.3g} and at most "
                    f"{_FLOAT32.max:.3g}, is {value}"
                )
        if self.head_dim % _HEAD_DIM_MULTIPLE:
            raise ValueError(
                f"head_dim: must be a multiple of {_HEAD_DIM_MULTIPLE} for onnxruntime's "
                f"attention with rotary embeddings, is {self.head_dim}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads: must be a multiple of num_key_value_heads "
                f"({self.num_key_value_heads}), is {self.num_attention_heads}"
            )
        if not self.eos_token_ids or not all(0 <= i < self.vocab_size for i in self.eos_token_ids):
            raise ValueError(
                f"eos_token_id: must name at least one token below vocab_size "
                f"({self.vocab_size}), names {list(self.eos_token_ids)}"
            )

    @classmethod
    def from_config(cls, document: Mapping[str, object]) -> Self:
        """Read a parsed `config.json`, as transformers 4 or 5 writes it.

        Args:
            document: The parsed file; `eos_token_id` is one id or a list of ids.

        Raises:
            CheckpointError: A field is missing, of the wrong type, or asks for something that is
                not built.
        """
        check_only_built(document, {**dict.fromkeys(_NEVER_BUILT), **cls.only_built})
        names = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in document.items() if name in names}
        known |= cls.renamed_fields(document)
        for name, value in cls.defaults(document).items():
            if known.get(name) is None:
                known[name] = value
        try:
            read = from_json(cls, known, "config.json")
        except FieldError as error:
            raise CheckpointError(str(error)) from error
        check_layer_types(document, read.num_hidden_layers, cls.layer_types_built)
        return read

    @classmethod
    def renamed_fields(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return the fields that `config.json` has under other names, or in several places."""
        theta = rope_theta(document, cls.rope_types_built)
        return {**theta, "eos_token_ids": list(eos_token_ids(document))}

    @classmethod
    def defaults(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return what fields are where `config.json` leaves them out, or has null."""
        return {}

    def expected_tensors(self) -> dict[str, Sizes]:
        """Name and shape of every tensor a checkpoint holds, the head's even where it is tied."""
        hidden = {"hidden_size": self.hidden_size}
        vocabulary = {"vocab_size": self.vocab_size} | hidden
        layer = self.layer_vectors() | self.layer_matrices()
        return {
            EMBEDDING: vocabulary,
            **{
                f"model.layers.{index}.{name}": sizes
                for index in range(self.num_hidden_layers)
                for name, sizes in layer.items()
            },
            "model.norm.weight": hidden,
            LM_HEAD: vocabulary,
        }

    def parts(self, matrix: str) -> dict[str, Shape]:
        """Return the (rows, columns) of the tensors that make up a matrix, from top to bottom."""
        tensors, shapes = self.layer_matrices(), {}
        for part in self.matrices[matrix]:
            rows, columns = tensors[f"{part}.weight"].values()
            shapes[part] = rows, columns
        return shapes

    def matrix_shapes(self, index: int) -> dict[str, Shape]:
        """Return the (rows, columns) of a layer's matrices by their names in the graph."""
        shapes = {name: list(self.parts(name).values()) for name in self.matrices}
        return {f"layers.{index}.{name}": stacked_shape(parts) for name, parts in shapes.items()}

    def matrix_columns(self) -> dict[str, int]:
        """Return the columns of all layers' matrices by their names in the graph."""
        return {
            name: columns
            for index in range(self.num_hidden_layers)
            for name, (_, columns) in self.matrix_shapes(index).items()
        }

    def vector_lengths(self, positions: int) -> Iterator[int]:
        """Yield how many values each weight of the graph holds that is no matrix.

        Args:
            positions: How many the rotary tables hold.
        """
        for frequencies in self.rotary_frequencies().values():
            yield from [positions * len(frequencies)] * 2
        for sizes in self.expected_tensors().values():
            if len(sizes) == 1:
                yield from sizes.values()


def check_only_built(document: Mapping[str, object], built: Mapping[str, object]) -> None:
    """Refuse what is not built.

    Args:
        document: The parsed file.
        built: Fields that some checkpoints leave out, and the only value that is built.

    Raises:
        CheckpointError: A field has another value.
    """
    for name, value in built.items():
        if document.get(name) not in (None, value):
            raise unsupported(name, value, document[name])


def eos_token_ids(document: Mapping[str, object]) -> tuple[int, ...]:
    """Return the ids of the tokens that end a text; none where `eos_token_id` is null.

    Raises:
        CheckpointError: It is neither an id nor a list of ids.
    """
    eos = document.get("eos_token_id")
    ends = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if any(type(end) is not int for end in ends):
        raise CheckpointError(
            f"config.json or generation_config.json: eos_token_id: must be a token id or a list of "
            f"them, is {_shown(eos)}"
        )
    return tuple(ends)


def llama_defaults(document: Mapping[str, object]) -> dict[str, object]:
    """Return what transformers takes for fields that Llama's and Qwen2's checkpoints leave out."""
    hidden, heads = document.get("hidden_size"), document.get("num_attention_heads")
    defaults = {"rope_theta": 1e4, "tie_word_embeddings": False, "num_key_value_heads": heads}
    if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 and not hidden % heads:
        defaults["head_dim"] = hidden // heads
    return defaults


def rope_type(parameters: Mapping[str, object]) -> object:
    """Return which kind of scaling rotary parameters ask for, under its new or its old name."""
    return parameters.get("rope_type", parameters.get("type", "default"))


def rope_theta(document: Mapping[str, object], built: Sequence[str]) -> dict[str, object]:
    """Find `rope_theta` where transformers 4 or 5 puts it, and refuse scaling that is not built.

    A `rope_theta` inside the parameters goes before the one beside them, as in transformers.

    Args:
        document: The parsed file.
        built: The kinds of scaling that are, `default` being none.

    Returns:
        The field, or nothing where it is not there.

    Raises:
        CheckpointError: The rotary embedding is scaled otherwise, or rotates a part of a head only.
    """
    name, parameters = rope_parameters(document)
    if (kind := rope_type(parameters)) not in built:
        raise unsupported(f"{name}.rope_type", " or ".join(built), kind)
    for place, values in ((f"{name}.", parameters), ("", document)):
        factor = values.get("partial_rotary_factor")
        if factor not in (None, 1):
            raise unsupported(f"{place}partial_rotary_factor", 1, factor)
    for values in (parameters, document):
        if values.get("rope_theta") is not None:
            return {"rope_theta": values["rope_theta"]}
    return {}


def rope_parameters(
    document: Mapping[str, object], kind: str = _FULL_ATTENTION
) -> tuple[str, Mapping[str, object]]:
    """Return the parameters of a kind of layer's rotary embedding, and where they stand.

    As in transformers, `rope_scaling` goes before `rope_parameters`, and either may be given by the
    kind of layer.

    Raises:
        CheckpointError: They are no object, or only other kinds of layers have any.
    """
    name = "rope_scaling" if document.get("rope_scaling") else "rope_parameters"
    parameters = _object(name, document.get(name) or {})
    if not any(isinstance(value, Mapping) for value in parameters.values()):
        return name, parameters
    if kind not in parameters:
        raise CheckpointError(
            f"config.json: {name}: must have parameters for {kind}, has them for "
            f"{', '.join(map(str, parameters))}"
        )
    return f"{name}.{kind}", _object(name, parameters[kind])


def check_layer_types(document: Mapping[str, object], count: int, built: Sequence[str]) -> None:
    """Check the kinds of layers, where they are given.

    Args:
        document: The parsed file.
        count: How many layers there are.
        built: The kinds that are built.

    Raises:
        CheckpointError: There are other kinds, or not as many as layers.
    """
    kinds = document.get("layer_types")
    if kinds is None:
        return
    if not isinstance(kinds, list) or len(kinds) != count:
        found = f"has {len(kinds)}" if isinstance(kinds, list) else f"is {_shown(kinds)}"
        raise CheckpointError(
            "config.json: layer_types: must be a list with one for each of num_hidden_layers "
            f"({count}), {found}"
        )
    for kind in kinds:
        if kind not in built:
            raise unsupported("layer_types", " or ".join(built), kind)


def unsupported(field: str, built: object, value: object) -> CheckpointError:
    """Return the error for a field that asks for what is not built."""
    return CheckpointError(
        f"config.json: {field}: only {json.dumps(built)} is supported, is {_shown(value)}"
    )


def _object(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"config.json: {name}: must be an object, is {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return shortened(json.dumps(value))
