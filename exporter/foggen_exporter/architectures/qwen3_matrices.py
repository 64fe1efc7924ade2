"""The shapes of the weights that a Qwen3 graph stores."""

from collections.abc import Iterator

from foggen_exporter.architectures.qwen3_config import Qwen3Config


def layer_matrices(config: Qwen3Config, index: int) -> dict[str, tuple[int, int]]:
    """Return the (rows, columns) of a layer's matrices by their names."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = {
        "qkv_proj": ((heads + 2 * kv_heads) * config.head_dim, hidden),
        "o_proj": (hidden, heads * config.head_dim),
        "gate_up_proj": (2 * inner, hidden),
        "down_proj": (hidden, inner),
    }
    return {f"layers.{index}.{name}": shape for name, shape in shapes.items()}


def vector_lengths(config: Qwen3Config, positions: int) -> Iterator[int]:
    """Yield how many values each weight holds that is no matrix: rotary tables, norm gains."""
    yield from [positions * config.head_dim // 2] * 2
    yield config.hidden_size
    for _ in range(config.num_hidden_layers):
        yield from [config.hidden_size] * 2
        yield from [config.head_dim] * 2
