"""Where Qwen3's channels may be scaled without changing what it computes."""

from foggen_exporter.architectures.qwen3_config import Qwen3Config
from foggen_exporter.weights.folding import Channels


def layer_channels(config: Qwen3Config, index: int) -> tuple[Channels, ...]:
    """Return the channels inside one layer: norms to products, values to o, up to down.

    A folded value projection also scales the values in the KV cache.
    """
    kv_heads = config.num_key_value_heads
    heads = (kv_heads, config.num_attention_heads // kv_heads)
    layer, product = f"model.layers.{index}", f"layers.{index}"
    q, k, v, o = (f"{layer}.self_attn.{name}_proj.weight" for name in "qkvo")
    gate, up, down = (f"{layer}.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
    return (
        Channels(f"{product}.qkv_proj", f"{layer}.input_layernorm.weight", (q, k, v)),
        Channels(f"{product}.o_proj", v, (o,), heads),
        Channels(f"{product}.gate_up_proj", f"{layer}.post_attention_layernorm.weight", (gate, up)),
        Channels(f"{product}.down_proj", up, (down,)),
    )
