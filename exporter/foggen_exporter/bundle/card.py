"""The README that every bundle carries, so that it can be published as it is."""

from foggen_runtime.bundle.manifest import Manifest, WeightFormat
from foggen_runtime.bundle.weight_groups import WeightGroup, weight_groups

_CARD = """\
---
library_name: foggen
base_model: {checkpoint}
pipeline_tag: text-generation
tags: [onnx, onnxruntime, on-device, foggen, {recipe}]
---

# {name}, {recipe}

An ONNX bundle of `{checkpoint}`{revision} for the foggen runtime. It states its confidence before
it answers; below tau = {tau:g} the question goes to a cloud model instead.

## Run it

```sh
pip install foggen
foggen ask DIRECTORY 'Which planet is largest?
A) Mars
B) Jupiter'
```

`DIRECTORY` is where this file lies, or the repository's name once published. Add `--cloud-url URL
--cloud-model NAME` to hand deferred questions to any OpenAI-compatible server, and `foggen inspect
DIRECTORY --verify` to check every file against its hash.

## What is inside

| file | MB | SHA-256 |
|---|---|---|
{files}

Weights: {weights}. Context: {context_length} tokens of prompt and answer. Confidence levels:
{levels}. {head}Needs onnxruntime {onnxruntime} or newer.

Made by {tool}; `foggen.json` records the weights' hash and all settings.

## Licence

The weights keep the licence of the checkpoint they were made from; see the page of
`{checkpoint}`. The foggen tools are under Apache-2.0.
"""

_HEAD = "It can only write multiple-choice replies: constrained decoding, one letter. "


def bundle_card(manifest: Manifest) -> str:
    """Write the README of a bundle, in Markdown with the hub's front matter."""
    revision = f" (revision {manifest.model.revision})" if manifest.model.revision else ""
    groups = weight_groups(manifest.quantization.groups)
    files = sorted(manifest.files.items())
    return _CARD.format(
        name=manifest.model.name,
        checkpoint=manifest.provenance["checkpoint"],
        revision=revision,
        recipe=manifest.quantization.recipe,
        tau=manifest.routing.tau,
        files="\n".join(
            f"| `{name}` | {info.bytes / 1e6:.2f} | `{info.sha256[:16]}…` |" for name, info in files
        ),
        weights="; ".join(map(_group, groups)),
        context_length=manifest.model.context_length,
        levels=", ".join(manifest.template.levels),
        head=_HEAD if manifest.graph.head else "",
        onnxruntime=manifest.graph.onnxruntime,
        tool=manifest.provenance["tool"],
    )


def _group(group: WeightGroup) -> str:
    where = f" of layers {group.layers}" if group.layers else ""
    return f"{group.name}{where} {_describe(group.form)}"


def _describe(form: WeightFormat) -> str:
    if form.activation_bits is not None:
        return f"{form.bits} bits by output channel, activations {form.activation_bits} bits by row"
    if form.block_size is None:
        return f"{form.bits}-bit floating point"
    zero = "symmetric" if form.symmetric else "with zero points"
    return f"{form.bits} bits in blocks of {form.block_size}, {zero}"
