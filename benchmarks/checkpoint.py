"""Write a random checkpoint of the exact shape of Qwen3-0.6B, with the real tokenizer.

Speed and memory do not depend on what the weights are, and these can be made anywhere.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.workspace import Workspace, workspace_argument
from tests.support.tokenizers import qwen3_tokenizer

SEED = 0
CONFIG = Qwen3Config(
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=40960,
    rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    rms_norm_eps=1e-6,
    initializer_range=0.02,
    tie_word_embeddings=True,
    bos_token_id=151643,
    eos_token_id=151645,
    dtype=torch.bfloat16,
)


def write_checkpoint(directory: Path) -> None:
    """Write weights of N(0, 0.02), the configuration and the tokenizer."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.bfloat16)
    Qwen3ForCausalLM(CONFIG).save_pretrained(directory)
    qwen3_tokenizer().save_pretrained(directory)


def write_4x_variant(checkpoint: Path, directory: Path) -> None:
    """Write the configuration as transformers 4 did, beside links to the other files."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        link = directory / file.name
        link.unlink(missing_ok=True)
        if file.name != "config.json":
            os.link(file, link)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    del config["layer_types"]
    (directory / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def main() -> None:
    """Write both, unless they are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    workspace: Workspace = parser.parse_args().work
    if not (workspace.checkpoint / "tokenizer.json").exists():
        write_checkpoint(workspace.checkpoint)
    write_4x_variant(workspace.checkpoint, workspace.checkpoint_4x)
    print(workspace.checkpoint, file=sys.stderr)


if __name__ == "__main__":
    main()
