"""Checkpoints that transformers 4 reads, as optimum-onnx needs them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def llama(tokenizer: Path) -> LlamaForCausalLM:
    """Return a small Llama of random weights for the tokenizer of another checkpoint."""
    ends = json.loads((tokenizer / "generation_config.json").read_text())["eos_token_id"]
    vocabulary = json.loads((tokenizer / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        eos_token_id=ends,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = ends
    return model


def teach(model: LlamaForCausalLM, replies: Mapping[tuple[int, ...], list[int]]) -> None:
    """Fit a model to a few prompts and replies, token ids, until it knows them by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        for prompt, reply in replies.items():
            ids = torch.tensor([[*prompt, *reply]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy a tokenizer of transformers 5, its class and extra tokens named as version 4 does."""
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, directory / name)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2))
