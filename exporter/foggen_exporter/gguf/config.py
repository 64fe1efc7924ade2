"""What `config.json` would say of a model in a GGUF file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from gguf import TokenType

from foggen_exporter.architectures.llama3_scaling import LLAMA3, Llama3Scaling
from foggen_exporter.gguf.files import GgufFiles, GgufWeights
from foggen_exporter.gguf.header import GgufHeader
from foggen_runtime.errors import CheckpointError

Document = dict[str, object]

ROPE_FACTORS = "rope_freqs.weight"

_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
# What llama.cpp takes for an end of text where it is a control token, though no key says so.
_ENDS = frozenset(
    {
        *("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
        *("<end_of_turn>", "<eos>", "</s>"),
    }
)
# What llama.cpp's src/models/gemma3.cpp goes by where the file does not say.
_GEMMA_PATTERN = 6  # every sixth layer sees all tokens
_GEMMA_LOCAL_THETA = 10_000.0
_GEMMA_27B_LAYERS = 62


@dataclass(frozen=True)
class Model:
    """A header, read under the name of its architecture."""

    header: GgufHeader
    name: str

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a whole number; arguments and errors as `GgufHeader.integer`."""
        return self.header.integer(f"{self.name}.{key}", default)

    def number(self, key: str, default: float | None = None) -> float:
        """Return the shortest decimal that is the file's float32: 1e-6, and not 9.99999997e-7."""
        return float(str(np.float32(self.header.number(f"{self.name}.{key}", default))))

    def says(self, key: str) -> bool:
        """Whether the file has a value for a key."""
        return f"{self.name}.{key}" in self.header.metadata

    def has(self, tensor: str) -> bool:
        """Whether the file has a tensor."""
        return tensor in self.header.tensors

    @property
    def head_dim(self) -> int:
        """How wide a head is."""
        heads = max(1, self.integer("attention.head_count"))
        return self.integer("attention.key_length", self.integer("embedding_length") // heads)


@dataclass(frozen=True)
class Family:
    """One of llama.cpp's architectures.

    Attributes:
        architecture: The class name in transformers.
        model_type: What transformers calls it.
        weights: What the converter does to the weights.
        more: Gives what `config.json` says beyond what it says of every family.
    """

    architecture: str
    model_type: str
    weights: GgufWeights
    more: Callable[[Model], Document]


def _llama(model: Model) -> Document:
    biases = {
        "attention_bias": model.has("blk.0.attn_q.bias"),
        "mlp_bias": model.has("blk.0.ffn_up.bias"),
    }
    return {"hidden_act": "silu", **biases, **_llama3_scaling(model)}


def _qwen2(model: Model) -> Document:
    return {"hidden_act": "silu"}


def _qwen3(model: Model) -> Document:
    return {"hidden_act": "silu", "attention_bias": model.has("blk.0.attn_q.bias")}


def _gemma3(model: Model) -> Document:
    layers = model.integer("block_count")
    pattern = model.integer("attention.sliding_window_pattern", _GEMMA_PATTERN)
    heads, hidden = model.integer("attention.head_count"), model.integer("embedding_length")
    scalar = hidden // heads if layers == _GEMMA_27B_LAYERS else model.head_dim
    softcap = "final_logit_softcapping"
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": scalar,
        "sliding_window": model.integer("attention.sliding_window"),
        "layer_types": [
            "sliding_attention" if (layer + 1) % pattern else "full_attention"
            for layer in range(layers)
        ],
        "rope_local_base_freq": model.number("rope.freq_base_swa", _GEMMA_LOCAL_THETA),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": model.number(softcap) if model.says(softcap) else None,
    }


FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        "LlamaForCausalLM",
        "llama",
        GgufWeights({}, rotary_pairs=True, extra=(ROPE_FACTORS,)),
        _llama,
    ),
    "qwen2": Family("Qwen2ForCausalLM", "qwen2", GgufWeights({}), _qwen2),
    "qwen3": Family("Qwen3ForCausalLM", "qwen3", GgufWeights({}), _qwen3),
    "gemma3": Family(
        "Gemma3ForCausalLM",
        "gemma3_text",
        GgufWeights(
            {
                "post_attention_norm": "post_attention_layernorm",
                "ffn_norm": "pre_feedforward_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
            },
            gain_offset=1.0,
        ),
        _gemma3,
    ),
}


def read_model(header: GgufHeader) -> tuple[Document, GgufFiles]:
    """Return what `config.json` would say, and the weights.

    Raises:
        CheckpointError: The architecture is none of `FAMILIES`, or a value is missing, of the wrong
            type, or asks for something that `config.json` has no word for.
    """
    name = header.text("general.architecture")
    if name not in FAMILIES:
        rule = f"must be one of {', '.join(FAMILIES)}"
        raise header.refusal("general.architecture", rule, name)
    family, model = FAMILIES[name], Model(header, name)
    if experts := model.integer("expert_count", 0):
        rule = "must be 0, for mixtures of experts are not supported"
        raise header.refusal(f"{name}.expert_count", rule, experts)
    document = _common(model) | family.more(model)
    document |= {"architectures": [family.architecture], "model_type": family.model_type}
    return document, GgufFiles(header, family.weights, model.head_dim)


def _common(model: Model) -> Document:
    """Return what is said of every family; the vocabulary is as large as the embedding."""
    header, heads = model.header, model.integer("attention.head_count")
    if not model.has("token_embd.weight"):
        raise CheckpointError(f"{header.path}: token_embd.weight: must be there, is missing")
    document: Document = {
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "hidden_size": model.integer("embedding_length"),
        "intermediate_size": model.integer("feed_forward_length"),
        "num_hidden_layers": model.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": model.integer("attention.head_count_kv", heads),
        "head_dim": model.head_dim,
        "max_position_embeddings": model.integer("context_length"),
        "rms_norm_eps": model.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": model.number("rope.freq_base", 10_000.0),
        "tie_word_embeddings": not model.has("output.weight"),
        "eos_token_id": _ends(header),
    }
    turned = model.integer("rope.dimension_count", model.head_dim)
    if turned != model.head_dim:
        document["partial_rotary_factor"] = turned / model.head_dim
    if (scaling := header.text(f"{model.name}.rope.scaling.type", "none")) != "none":
        factor = model.number("rope.scaling.factor", 1.0)
        document["rope_scaling"] = {"rope_type": scaling, "factor": factor}
    return document


def _ends(header: GgufHeader) -> list[int]:
    """Return the tokens that end a text, the one that the file names so before others."""
    tokens, types = (
        header.texts("tokenizer.ggml.tokens"),
        header.integers("tokenizer.ggml.token_type"),
    )
    ends = [
        header.integer(f"tokenizer.ggml.{key}")
        for key in _END_KEYS
        if f"tokenizer.ggml.{key}" in header.metadata
    ]
    for token_id, (token, kind) in enumerate(zip(tokens, types, strict=False)):
        if kind == TokenType.CONTROL and token in _ENDS:
            ends.append(token_id)
    return list(dict.fromkeys(ends))


def _llama3_scaling(model: Model) -> Document:
    """Recognize the parameters from the factors that the converter made of them."""
    if not model.has(ROPE_FACTORS):
        return {}
    files = GgufFiles(model.header, GgufWeights({}), model.head_dim)
    factors = files.tensor(ROPE_FACTORS)
    # The slowest frequencies are divided by `factor` itself; it is 8 or 32 in Llama 3.1 to 3.3, the
    # rest the same in all.
    factor = max(1.0, float(factors.max()))
    scaling = Llama3Scaling(factor, 1.0, 4.0, 8192)
    half = np.arange(0, model.head_dim, 2) / model.head_dim
    frequencies = (1 / model.number("rope.freq_base", 10_000.0) ** half).astype(np.float32)
    expected = frequencies / scaling.scaled(frequencies)
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
        raise CheckpointError(
            f"{model.header.path}: {ROPE_FACTORS}: must be what Llama 3's scaling gives, with "
            f"low_freq_factor 1, high_freq_factor 4 and original_max_position_embeddings 8192; "
            "export the original checkpoint"
        )
    return {"rope_scaling": {"rope_type": LLAMA3, **asdict(scaling)}}
