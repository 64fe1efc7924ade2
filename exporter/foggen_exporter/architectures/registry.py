"""The families that are built, by the class that `config.json` names."""

from foggen_exporter.architectures.decoder import Decoder
from foggen_exporter.architectures.gemma3 import Gemma3
from foggen_exporter.architectures.llama import Llama
from foggen_exporter.architectures.qwen2 import Qwen2
from foggen_exporter.architectures.qwen3 import Qwen3

ARCHITECTURES: dict[str, type[Decoder]] = {
    "Gemma3ForCausalLM": Gemma3,
    "LlamaForCausalLM": Llama,
    "Qwen2ForCausalLM": Qwen2,
    "Qwen3ForCausalLM": Qwen3,
}
