"""Finding checkpoints, with the real hub client against a stand-in hub on loopback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.locating import resolve_checkpoint
from foggen_runtime.errors import CheckpointError
from tests.support.checkpoints import TinyQwen3, shard, write_checkpoint
from tests.support.hub_server import Hub, HubRepository, running_hub

NAME = "org/tiny"
FILES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine")
    write_checkpoint(directory, TinyQwen3(num_hidden_layers=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md"):
        (directory / name).write_text("{}")
    for name in ("onnx/model.safetensors", "tokenizer_of_old/vocab.json"):
        (directory / name).parent.mkdir()
        (directory / name).write_text("another")
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "repository")


def _refusal(hub: Hub, tmp_path: Path, name: str = NAME, revision: str | None = None) -> str:
    with pytest.raises(CheckpointError) as raised:
        resolve_checkpoint(name, revision, lambda _: None, hub.endpoint, tmp_path / "cache")
    return str(raised.value)


def test_a_directory_is_used_as_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    assert resolve_checkpoint(str(tmp_path), None, said.append) == (tmp_path, None)
    assert not said


def test_a_directory_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="revision: must be left out for a directory"):
        resolve_checkpoint(str(tmp_path), "main", lambda _: None)


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "../elsewhere", "/elsewhere", "", "a/"])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="must be a directory, a GGUF file or a hub id"):
        resolve_checkpoint(name, None, lambda _: None)


def test_what_exporting_needs_is_downloaded(directory: Path, tmp_path: Path) -> None:
    repository = HubRepository(NAME, directory)
    with running_hub(repository) as hub:
        path, commit = resolve_checkpoint(
            NAME, None, lambda _: None, hub.endpoint, tmp_path / "cache"
        )
    assert commit == repository.commit
    assert sorted(path.name for path in path.iterdir()) == FILES
    here = Checkpoint.open(directory).weights_sha256()
    assert Checkpoint.open(path).weights_sha256() == here


def test_the_download_is_announced_before_it_begins(directory: Path, tmp_path: Path) -> None:
    repository = HubRepository(NAME, directory)
    megabytes = sum((directory / name).stat().st_size for name in FILES) / 1e6
    requests_by_then: list[list[str]] = []
    said: list[str] = []
    with running_hub(repository) as hub:

        def announce(message: str) -> None:
            said.append(message)
            requests_by_then.append(list(hub.requests))

        for _ in range(2):
            resolve_checkpoint(NAME, None, announce, hub.endpoint, tmp_path / "cache")
    what = f"{NAME}, revision main (commit {repository.commit[:12]}): "
    assert said == [
        f"{what}{megabytes:.1f} MB to download in 6 files, cached: 0",
        f"{what}all 6 files are cached",
    ]
    assert requests_by_then[0] == [f"GET /api/models/{NAME}/revision/main"]


def test_only_what_is_not_cached_counts(directory: Path, tmp_path: Path) -> None:
    said: list[str] = []
    cache = tmp_path / "cache"
    with running_hub(HubRepository(NAME, directory)) as hub:
        hf_hub_download(NAME, "model.safetensors", endpoint=hub.endpoint, cache_dir=cache)
        resolve_checkpoint(NAME, None, said.append, hub.endpoint, cache)
        weights = [request for request in hub.requests if request.endswith("safetensors")]
    assert said[0].endswith(": 0.0 MB to download in 5 files, cached: 1")
    assert sum(request.startswith("GET") for request in weights) == 1


def test_a_commit_is_a_revision(directory: Path, tmp_path: Path) -> None:
    repository = HubRepository(NAME, directory)
    with running_hub(repository) as hub:
        path, commit = resolve_checkpoint(
            NAME, repository.commit, lambda _: None, hub.endpoint, tmp_path / "cache"
        )
        assert not any(request.endswith("/main") for request in hub.requests)
    assert path.name == commit == repository.commit


def test_shards_are_downloaded_where_there_is_no_single_file(
    directory: Path, tmp_path: Path
) -> None:
    whole = (directory / "model.safetensors").read_bytes()
    shard(directory)
    with running_hub(HubRepository(NAME, directory)) as hub:
        path, _ = resolve_checkpoint(NAME, None, lambda _: None, hub.endpoint, tmp_path / "cache")
    assert len(list(path.glob("model-*-of-00002.safetensors"))) == 2
    assert Checkpoint.open(path).config == Checkpoint.open(directory).config
    (directory / "model.safetensors").write_bytes(whole)
    with running_hub(HubRepository(NAME, directory)) as hub:
        path, _ = resolve_checkpoint(NAME, None, lambda _: None, hub.endpoint, tmp_path / "cache")
    assert sorted(path.name for path in path.iterdir()) == FILES


def test_without_a_connection_the_cached_copy_is_used(directory: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with running_hub(HubRepository(NAME, directory)) as hub:
        first = resolve_checkpoint(NAME, None, lambda _: None, hub.endpoint, tmp_path / "cache")
    assert resolve_checkpoint(NAME, None, said.append, hub.endpoint, tmp_path / "cache") == first
    assert said == [f"{NAME}: the hub cannot be reached; using {first[0].name[:12]} from the cache"]


def test_without_a_connection_or_a_copy_it_says_what_to_do(tmp_path: Path) -> None:
    with running_hub() as hub:
        pass
    said = _refusal(hub, tmp_path)
    assert "org/tiny: is not a directory, and asking the hub failed: " in said
    assert said.endswith("check the connection and the name, or pass a directory")


def test_a_name_that_the_client_rejects_is_no_crash(tmp_path: Path) -> None:
    with running_hub() as hub:
        assert "asking the hub failed: Cannot have --" in _refusal(hub, tmp_path, "org/a--b")


def test_unknown_repositories_and_revisions_are_refused(directory: Path, tmp_path: Path) -> None:
    with running_hub(HubRepository(NAME, directory)) as hub:
        assert "neither a directory nor a repository" in _refusal(hub, tmp_path, "org/other")
        assert "has no revision 'v2'" in _refusal(hub, tmp_path, revision="v2")


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "GatedRepo", "is gated; ask for access on its page and log in"),
        (401, "GatedRepo", "is gated; ask for access on its page and log in"),
        (403, "", "the hub refuses access (HTTP 403); log in"),
        (400, "", "the hub answers HTTP 400; try again later"),
    ],
)
def test_refused_files_say_what_to_do(
    directory: Path, tmp_path: Path, status: int, code: str, advice: str
) -> None:
    with running_hub(HubRepository(NAME, directory, refusal=(status, code))) as hub:
        assert advice in _refusal(hub, tmp_path)


def test_a_download_that_breaks_off_is_no_crash(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with running_hub(HubRepository(NAME, directory)) as hub:
        assert "org/tiny: the download broke off: " in _refusal(hub, tmp_path)


def test_a_repository_without_safetensors_is_refused(directory: Path, tmp_path: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with running_hub(HubRepository(NAME, directory)) as hub:
        said = _refusal(hub, tmp_path)
        assert "must have model.safetensors or shards, has README.md" in said
        assert not any("resolve" in request for request in hub.requests)


def test_the_client_s_own_endpoint_and_cache_are_the_default(
    directory: Path, tmp_path: Path
) -> None:
    script = (
        "from foggen_exporter.weights.locating import resolve_checkpoint\n"
        f"print(resolve_checkpoint({NAME!r}, None, lambda _: None)[0])"
    )
    with running_hub(HubRepository(NAME, directory)) as hub:
        run = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "HF_ENDPOINT": hub.endpoint,
                "HF_HUB_CACHE": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            check=True,
        )
    assert Path(run.stdout.strip()).is_relative_to(tmp_path / "cache")
