"""Finding a checkpoint: a directory, or a repository of a Hugging Face hub."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from foggen_runtime.errors import CheckpointError

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SINGLE_FILE = "model.safetensors"
_SHARDS = ("model-*.safetensors", "model.safetensors.index.json")
_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)


def resolve_checkpoint(
    name_or_dir: str,
    revision: str | None,
    announce: Callable[[str], None],
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> tuple[Path, str | None]:
    """Return a checkpoint's directory or file, downloading it into the hub's cache if need be.

    Only configuration, tokenizer and safetensors files are downloaded. Where the hub cannot be
    reached, a copy that an earlier download left in the cache is used.

    Args:
        name_or_dir: A directory, a GGUF file, or a hub id such as `org/name`.
        revision: Branch, tag or commit of a hub repository; None is its main branch.
        announce: Called with a sentence on what will be downloaded, before it starts.
        endpoint: The hub's address, where it is not huggingface_hub's default.
        cache_dir: The hub's cache, where it is not huggingface_hub's default.

    Returns:
        The directory or file, and the commit hash if it came from a hub.

    Raises:
        CheckpointError: There is no such directory, file or repository, or it cannot be downloaded.
    """
    path = Path(name_or_dir)
    if name_or_dir and (path.is_dir() or is_gguf(path)):
        if revision is not None:
            kind = "a directory" if path.is_dir() else "a file"
            raise CheckpointError(
                f"revision: must be left out for {kind}, is {revision!r}; {name_or_dir} is one"
            )
        return path, None
    if not _HUB_ID.fullmatch(name_or_dir):
        raise CheckpointError(
            "checkpoint: must be a directory, a GGUF file or a hub id (org/name), "
            f"is {name_or_dir!r}"
        )
    repository = _Repository(name_or_dir, revision or "main", endpoint, cache_dir)
    return repository.download(announce)


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, there or not: no hub id ends so."""
    return path.suffix.lower() == ".gguf"


@dataclass(frozen=True)
class _Repository:
    name: str
    revision: str
    endpoint: str | None
    cache_dir: Path | None

    def download(self, announce: Callable[[str], None]) -> tuple[Path, str]:
        # Different versions of huggingface_hub use different HTTP clients, with other exceptions.
        try:
            info = HfApi(endpoint=self.endpoint).model_info(
                self.name, revision=self.revision, files_metadata=True
            )
        except HfHubHTTPError as error:
            raise self._refused(error) from error
        except Exception as error:
            return self._from_cache(announce, error)
        sizes = _wanted_files(info)
        announce(self._announcement(info.sha or self.revision, sizes))
        try:
            path = self._snapshot(list(sizes))
        except Exception as error:
            # Some of the hub's answers come wrapped as "not in the cache either".
            answer = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
            if isinstance(answer, HfHubHTTPError):
                raise self._refused(answer) from error
            raise CheckpointError(
                f"{self.name}: the download broke off: {error}; run the same command again"
            ) from error
        return path, path.name

    def _from_cache(self, announce: Callable[[str], None], cause: Exception) -> tuple[Path, str]:
        patterns = [_SINGLE_FILE, *_SHARDS, *_BESIDE_WEIGHTS]
        try:
            path = self._snapshot(patterns, local_files_only=True)
        except (OSError, ValueError):
            raise CheckpointError(
                f"{self.name}: is not a directory, and asking the hub failed: {cause}; check "
                "the connection and the name, or pass a directory"
            ) from cause
        announce(f"{self.name}: the hub cannot be reached; using {path.name[:12]} from the cache")
        return path, path.name

    def _snapshot(self, patterns: Sequence[str], *, local_files_only: bool = False) -> Path:
        """Return the snapshot's directory, which is named by its commit."""
        return Path(
            snapshot_download(
                self.name,
                revision=self.revision,
                endpoint=self.endpoint,
                cache_dir=self.cache_dir,
                allow_patterns=list(patterns),
                ignore_patterns="*/*",
                local_files_only=local_files_only,
            )
        )

    def _announcement(self, commit: str, sizes: Mapping[str, int]) -> str:
        missing = [
            size
            for name, size in sizes.items()
            if not isinstance(
                try_to_load_from_cache(self.name, name, cache_dir=self.cache_dir, revision=commit),
                str,
            )
        ]
        what = f"{self.name}, revision {self.revision} (commit {commit[:12]})"
        if not missing:
            return f"{what}: all {len(sizes)} files are cached"
        return (
            f"{what}: {sum(missing) / 1e6:.1f} MB to download in {len(missing)} files, "
            f"cached: {len(sizes) - len(missing)}"
        )

    def _refused(self, error: HfHubHTTPError) -> CheckpointError:
        status = error.response.status_code
        if isinstance(error, GatedRepoError):
            what = "is gated; ask for access on its page and log in with `hf auth login`"
        elif isinstance(error, RevisionNotFoundError):
            what = f"has no revision {self.revision!r}; pass a branch, tag or commit it has"
        elif isinstance(error, RepositoryNotFoundError):
            what = (
                "is neither a directory nor a repository that you may read; check the name, or "
                "log in with `hf auth login` if it is private"
            )
        elif status in (401, 403):
            what = f"the hub refuses access (HTTP {status}); log in with `hf auth login`"
        else:
            what = f"the hub answers HTTP {status}; try again later, or pass a directory"
        return CheckpointError(f"{self.name}: {what}")


def _wanted_files(info: ModelInfo) -> dict[str, int]:
    """Choose the files at the top of a repository that exporting reads: `{name: bytes}`."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    weights = (_SINGLE_FILE,) if _SINGLE_FILE in sizes else _SHARDS
    wanted = {
        name: size
        for name, size in sizes.items()
        if "/" not in name
        and any(fnmatch.fnmatchcase(name, pattern) for pattern in (*weights, *_BESIDE_WEIGHTS))
    }
    if not any(name.endswith(".safetensors") for name in wanted):
        listing = ", ".join(sizes) or "nothing"
        raise CheckpointError(f"{info.id}: must have {_SINGLE_FILE} or shards, has {listing}")
    return wanted
