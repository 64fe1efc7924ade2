"""The tiny Qwen3 model, and batches for it whose constant prefix is computed only once."""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Return an untrained model; query heads are wider than hidden, as in the real one."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def pad(rows: Sequence[Sequence[int]], filler: int = 0) -> torch.Tensor:
    """Stack rows of ids, filled up on the right with any token: causal attention never looks."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def suffix_hidden(
    model: Qwen3ForCausalLM, prefix: Sequence[int], suffixes: torch.Tensor
) -> torch.Tensor:
    """Return the hidden states of the suffixes, each read after the same prefix.

    Gradients flow through the prefix too, which costs one row instead of one per suffix.
    """
    if not prefix:
        output = model.model(input_ids=suffixes, use_cache=False)
    else:
        cache = DynamicCache(config=model.config)
        # By position: transformers 5.24 calls it `cache`, those before `past_key_values`.
        model.model(torch.tensor([prefix]), None, None, cache, use_cache=True)
        cache.batch_repeat_interleave(len(suffixes))
        output = model.model(suffixes, None, None, cache, use_cache=True)
    hidden: torch.Tensor = output.last_hidden_state  # (batch, width, hidden)
    return hidden


def reply_loss(
    model: Qwen3ForCausalLM,
    prefix: Sequence[int],
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Return the mean cross-entropy of the reply tokens."""
    rows = [[*p, *r] for p, r in zip(prompts, replies, strict=True)]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = suffix_hidden(model, prefix, pad(rows))
        picked = [
            hidden[i, len(p) - 1 : len(p) + len(r) - 1]
            for i, (p, r) in enumerate(zip(prompts, replies, strict=True))
        ]
        logits = model.lm_head(torch.cat(picked))
    targets = torch.tensor([token for reply in replies for token in reply])
    return torch.nn.functional.cross_entropy(logits.float(), targets)
