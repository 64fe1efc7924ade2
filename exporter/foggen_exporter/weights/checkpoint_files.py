"""The files of a checkpoint directory: its configuration, and where its weights are."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import parse_json

_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
# The beginning of the file that git leaves in place of one that git-lfs has not fetched (git-lfs,
# docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/"
_TEXT_FILES = ("*.json", "*.txt", "*.jinja")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CheckpointError: The file cannot be read or holds something else.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: must hold an object, holds {type(document).__name__}")
    return document


def read_configs(directory: Path) -> dict[str, Any]:
    """Return `config.json` with the `eos_token_id` that generating uses.

    Raises:
        CheckpointError: There is no checkpoint, one of its text files is only a pointer of git-lfs,
            or the configuration cannot be read.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such directory")
    if not (directory / "config.json").exists():
        hint = ""
        if (directory / "adapter_config.json").exists():
            hint = "; this is an adapter, so export its base checkpoint with --adapter"
        raise CheckpointError(f"{directory}: is not a checkpoint, it has no config.json{hint}")
    check_pulled(directory)
    document = read_json_object(directory / "config.json")
    generation = directory / "generation_config.json"
    if generation.exists():
        eos = read_json_object(generation).get("eos_token_id")
        if eos is not None:
            document["eos_token_id"] = eos
    return document


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint, shards in the order of their names.

    Raises:
        CheckpointError: There are none, some are missing, the index of the shards is broken, or
            git-lfs has not fetched one.
    """
    files = _weight_files(directory)
    _refuse_pointers(files)
    return files


def check_pulled(directory: Path, *more: str) -> None:
    """Check that git-lfs has fetched the text files of a directory, and others by their names.

    Raises:
        CheckpointError: One is a pointer.
    """
    for pattern in (*_TEXT_FILES, *more):
        _refuse_pointers(sorted(directory.glob(pattern)))


def _weight_files(directory: Path) -> list[Path]:
    single = directory / "model.safetensors"
    if single.exists():
        return [single]
    index = directory / "model.safetensors.index.json"
    if index.exists():
        return _indexed(index)
    if shards := sorted(path.name for path in directory.iterdir() if _SHARD.fullmatch(path.name)):
        return _complete(directory, shards)
    others = sorted(path.name for path in directory.glob("*.bin"))
    if others:
        raise CheckpointError(
            f"{directory}: has no model.safetensors but {others[0]}, which is a pickle; load it "
            "with transformers and save it with save_pretrained, which writes safetensors"
        )
    raise CheckpointError(
        f"{directory}: has neither model.safetensors nor model.safetensors.index.json"
    )


def _indexed(index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map: must be an object of file names")
    paths = []
    for name in sorted({str(name) for name in weight_map.values()}):
        if Path(name).name != name:
            raise CheckpointError(
                f"{index}: weight_map: must hold plain file names, holds {name!r}"
            )
        paths.append(index.parent / name)
    return paths


def _complete(directory: Path, names: list[str]) -> list[Path]:
    """Return shards without an index, if all are there: their headers say what is where."""
    totals = {name[len("model-00001-of-") :] for name in names}
    if len(totals) > 1:
        raise CheckpointError(
            f"{directory}: must have the shards of one checkpoint, has {', '.join(names[:3])}, …; "
            "remove those of the other, or add model.safetensors.index.json, which says"
        )
    (total,) = totals
    count = int(total.removesuffix(".safetensors"))
    expected = [f"model-{i:05}-of-{total}" for i in range(1, count + 1)]
    if missing := sorted(set(expected) - set(names)):
        raise CheckpointError(
            f"{directory}: has {len(names)} of {count} shards, and no "
            f"model.safetensors.index.json; missing: {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        )
    return [directory / name for name in expected]


def _refuse_pointers(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            with path.open("rb") as file:
                head = file.read(len(_POINTER))
        except OSError:
            continue  # whoever reads it reports that
        if head == _POINTER:
            raise CheckpointError(
                f"{path}: is only a git-lfs pointer; fetch the file with `git lfs pull` "
                f"in {path.parent}"
            )
