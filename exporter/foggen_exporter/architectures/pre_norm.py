"""The layer that most families have: a norm before attention, and one before a gated MLP."""

from abc import abstractmethod

from foggen_exporter.architectures.decoder import Decoder
from foggen_exporter.architectures.layer_graph import LayerGraph, States


class PreNormDecoder(Decoder):
    """A family whose layers differ in attention only; the MLP is SwiGLU (arXiv 2002.05202)."""

    @abstractmethod
    def attention(self, m: LayerGraph, normed: str) -> str:
        """Emit attention, up to the output projection."""

    def layer(self, m: LayerGraph, states: States) -> States:
        """Emit one layer, and the norm that follows it."""
        normed, residual = states
        attended, residual = m.tail(self.attention(m, normed), residual)
        output = m.linear(attended, "o_proj")
        normed, residual = m.add_norm(output, residual, "middle", self.mlp_norm)
        gate, up = m.products(normed, "gate_up_proj")
        active = m.silu(m.scaled(gate, "gate"))
        product = m.linear(m.times(active, up, "gated"), "down_proj")
        return m.next_norm(product, residual)
