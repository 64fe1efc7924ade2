"""`foggen fetch` against a server that breaks off, lies and refuses."""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from foggen_runtime.bundle import checked_files
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.download import Advance, Download, DownloadOptions
from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest
from foggen_runtime.cli import foggen
from foggen_runtime.errors import BundleError, ConfigError, DownloadError
from tests.conftest import BundleOf

DATA = "model.onnx.data"
HASTY = DownloadOptions(timeout=5, attempts=3, pause=0.01)


@dataclass
class Site:
    """A directory on a web server, and how the server misbehaves.

    Attributes:
        directory: What is served.
        breaks_after: Bytes of a body after which the connection is cut; None never cuts.
        ranges: Whether parts are given when asked for.
        statuses: What the next requests are answered with instead.
        redirect: Where every request is sent on to.
        asked: The file and the `Range` of each request.
    """

    directory: Path
    breaks_after: int | None = None
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    redirect: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = unquote(self.path.rpartition("/")[2])
            wanted = self.headers.get("Range")
            site.asked.append((name, wanted))
            if site.redirect:
                self.send_response(302)
                self.send_header("Location", site.redirect + name)
                self.end_headers()
                return
            status = site.statuses.pop(0) if site.statuses else 200
            path = site.directory / name
            content = path.read_bytes() if status == 200 and path.exists() else b""
            if not path.exists():
                status = 404
            start = int(re.findall(r"\d+", wanted)[0]) if wanted and site.ranges else 0
            if start and status == 200:
                status = 206 if start < len(content) else 416
            self.send_response(status)
            if status == 206:
                span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", span)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: site.breaks_after])

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/models/tiny/"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "published"))


@pytest.fixture
def site(bundle: Path) -> Iterator[Site]:
    with serving(Site(bundle)) as running:
        yield running


def download(site: Site, target: Path, sha256: str | None = None) -> list[int]:
    """Fetch, and return the number of missing bytes and then each advance."""
    steps: list[int] = []

    def announce(manifest: Manifest, missing: int) -> Advance:
        steps.append(missing)
        return steps.append

    Download(site.url, target, sha256, HASTY).run(announce)
    return steps


def same(one: Path, other: Path) -> bool:
    names = {MANIFEST_FILE, *Manifest.load(one).files}
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_bundle_arrives_whole(site: Site, bundle: Path, tmp_path: Path) -> None:
    missing, *steps = download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")
    assert sum(steps) == missing
    Bundle.open(tmp_path / "got", verify=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_link_that_keeps_breaking_still_delivers(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    site.breaks_after = 50_000
    missing, *steps = download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")
    assert sum(steps) == missing
    size = (bundle / DATA).stat().st_size
    spans = [span for name, span in site.asked if name == DATA]
    assert spans == [None, *(f"bytes={start}-" for start in range(50_000, size, 50_000))]


def test_the_next_run_goes_on_where_the_last_gave_up(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    site.statuses = [200, 200]
    size = sum(info.bytes for info in Manifest.load(bundle).files.values())
    kept = tmp_path / ".got.partial" / DATA
    names = list(Manifest.load(bundle).files)
    site.breaks_after = 0
    with pytest.raises(DownloadError, match="run the command again to continue"):
        download(site, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    site.breaks_after = None
    (tmp_path / ".got.partial" / MANIFEST_FILE).write_bytes((bundle / MANIFEST_FILE).read_bytes())
    kept.write_bytes((bundle / DATA).read_bytes()[:1000])
    site.asked.clear()
    missing, *_ = download(site, tmp_path / "got")
    assert missing == size - 1000
    assert (DATA, "bytes=1000-") in site.asked
    assert len(site.asked) == 1 + len(names)


def test_a_server_without_ranges_sends_all_again(site: Site, bundle: Path, tmp_path: Path) -> None:
    site.ranges = False
    (tmp_path / ".got.partial").mkdir()
    shutil.copy(bundle / MANIFEST_FILE, tmp_path / ".got.partial")
    (tmp_path / ".got.partial" / DATA).write_bytes((bundle / DATA).read_bytes()[:1000])
    missing, *steps = download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")
    assert sum(steps) == missing


@pytest.mark.parametrize("junk", [b"x" * 1000, b"x" * 10_000_000])
def test_a_wrong_beginning_is_found_and_fetched_again(
    site: Site, bundle: Path, tmp_path: Path, junk: bytes
) -> None:
    (tmp_path / ".got.partial").mkdir()
    shutil.copy(bundle / MANIFEST_FILE, tmp_path / ".got.partial")
    (tmp_path / ".got.partial" / DATA).write_bytes(junk)
    download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")


def damage(bundle: Path) -> None:
    content = bytearray((bundle / DATA).read_bytes())
    content[1000] ^= 1
    (bundle / DATA).write_bytes(content)


def lengthen(bundle: Path) -> None:
    (bundle / DATA).write_bytes((bundle / DATA).read_bytes() + b"more")


def shorten(bundle: Path) -> None:
    (bundle / DATA).write_bytes((bundle / DATA).read_bytes()[:-10])


def remove(bundle: Path) -> None:
    (bundle / DATA).unlink()


def empty_manifest(bundle: Path) -> None:
    (bundle / MANIFEST_FILE).write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (damage, BundleError, "SHA-256 must be"),
        (lengthen, BundleError, "has more"),
        (shorten, DownloadError, "3 attempts failed"),
        (remove, DownloadError, "HTTP status 404"),
        (empty_manifest, BundleError, "is missing"),
    ],
)
def test_what_is_not_the_bundle_never_takes_its_place(
    site: Site,
    bundle: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    error: type[Exception],
    message: str,
) -> None:
    spoil(bundle)
    with pytest.raises(error, match=message):
        download(site, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_another_bundle_than_wanted_is_refused(site: Site, bundle: Path, tmp_path: Path) -> None:
    wanted = Manifest.load(bundle).sha256
    with pytest.raises(BundleError, match=f"must be {'0' * 64}, is {wanted}"):
        download(site, tmp_path / "got", "0" * 64)
    assert [name for name, _ in site.asked] == [MANIFEST_FILE]
    download(site, tmp_path / "got", wanted.upper())
    assert same(bundle, tmp_path / "got")


@pytest.mark.parametrize("kind", ["link", "file", "open to all"])
def test_a_planted_place_for_the_parts_is_refused(site: Site, tmp_path: Path, kind: str) -> None:
    """In a directory that others can write to, anybody may have made it beforehand."""
    partial, precious = tmp_path / ".got.partial", tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    match kind:
        case "link":
            partial.symlink_to(precious)
        case "file":
            partial.write_text("in the way")
        case "open to all":
            partial.mkdir()
            partial.chmod(0o777)
    with pytest.raises(ConfigError, match=r"output: .*\.got\.partial"):
        download(site, tmp_path / "got")
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    assert site.asked == []


def test_what_is_planted_among_the_parts_is_not_written_to(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    partial, precious = tmp_path / ".got.partial", tmp_path / "thesis.txt"
    precious.write_text("years of work")
    partial.mkdir()
    shutil.copy(bundle / MANIFEST_FILE, partial)
    (partial / DATA).symlink_to(precious)
    (partial / "model.onnx").hardlink_to(precious)
    (partial / ".lock").symlink_to(precious)
    with pytest.raises(ConfigError, match=r"output: cannot write"):
        download(site, tmp_path / "got")
    (partial / ".lock").unlink()
    os.mkfifo(partial / "tokenizer.json")
    download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")
    assert precious.read_text() == "years of work"


def test_a_manifest_that_lists_itself_is_refused(site: Site, bundle: Path, tmp_path: Path) -> None:
    """It would be fetched again as a file, and could then say something else."""
    manifest = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["files"][MANIFEST_FILE] = manifest["files"]["model.onnx"]
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=f"files: must not list {MANIFEST_FILE}"):
        download(site, tmp_path / "got")
    assert [name for name, _ in site.asked] == [MANIFEST_FILE]


def test_the_hash_printed_is_the_one_that_inspect_prints(site: Site, tmp_path: Path) -> None:
    target = str(tmp_path / "got")
    fetched = CliRunner().invoke(foggen, ["fetch", site.url, "-o", target])
    inspected = CliRunner().invoke(foggen, ["inspect", target])
    assert fetched.stdout.split()[-1] == re.findall(r"bundle sha256 +(\w+)", inspected.stdout)[0]


def test_a_fetched_bundle_was_hashed_already(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(site, tmp_path / "got")
    monkeypatch.setattr(checked_files, "sha256_stream", lambda file: pytest.fail(str(file)))
    Bundle.open(tmp_path / "got")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_who_may_read_it_is_up_to_the_umask(site: Site, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        download(site, tmp_path / "got")
    finally:
        os.umask(before)
    assert (tmp_path / "got").stat().st_mode & 0o777 == 0o775 & ~mask
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "got").iterdir()} == {0o666 & ~mask}


def test_a_name_is_not_read_as_part_of_the_address(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    (bundle / "README.md").rename(bundle / "read me#1 100%.md")
    text = (bundle / MANIFEST_FILE).read_text(encoding="utf-8")
    text = text.replace('"README.md"', '"read me#1 100%.md"')
    (bundle / MANIFEST_FILE).write_text(text, encoding="utf-8")
    download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")


def test_a_name_with_control_characters_does_not_reach_the_terminal(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    manifest = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["model"]["name"] = "nice\x1b[2J\x9b31m"
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    target = str(tmp_path / "got")
    results = [
        CliRunner().invoke(foggen, ["fetch", site.url, "-o", target]),
        CliRunner().invoke(foggen, ["inspect", target]),
        CliRunner().invoke(foggen, ["inspect", target, "--json"]),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0]
    for result in results:
        assert set(result.output) & {"\x1b", "\x9b"} == set()
    assert json.loads(results[2].stdout)["model"]["name"] == "nice\x1b[2J\x9b31m"


def test_a_busy_server_is_asked_again(site: Site, bundle: Path, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    download(site, tmp_path / "got")
    assert same(bundle, tmp_path / "got")


def test_redirects_are_followed(site: Site, bundle: Path, tmp_path: Path) -> None:
    with serving(Site(bundle, redirect=site.url)) as front:
        download(front, tmp_path / "got")
    assert same(bundle, tmp_path / "got")


def test_a_bundle_that_is_there_is_kept(site: Site, bundle: Path, tmp_path: Path) -> None:
    download(site, tmp_path / "got")
    site.asked.clear()
    assert download(site, tmp_path / "got") == []
    assert [name for name, _ in site.asked] == [MANIFEST_FILE]
    (tmp_path / "got" / MANIFEST_FILE).unlink()
    with pytest.raises(ConfigError, match="exists already and is not this bundle"):
        download(site, tmp_path / "got")


def test_a_new_version_on_the_server_starts_afresh(
    site: Site, bundle: Path, tmp_path: Path
) -> None:
    partial = tmp_path / ".got.partial"
    partial.mkdir()
    (partial / MANIFEST_FILE).write_text("of an older bundle")
    (partial / DATA).write_bytes(b"older")
    missing, *_ = download(site, tmp_path / "got")
    assert missing == sum(info.bytes for info in Manifest.load(bundle).files.values())
    assert same(bundle, tmp_path / "got")


def test_two_runs_do_not_mix(site: Site, tmp_path: Path) -> None:
    def announce(manifest: Manifest, missing: int) -> Advance:
        with pytest.raises(ConfigError, match="another run is fetching"):
            download(site, tmp_path / "got")
        return lambda count: None

    Download(site.url, tmp_path / "got", None, HASTY).run(announce)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/", "must begin with"),
        ("file:///tmp", "must begin with"),
        ("https://user:secret@host/", "must not contain credentials"),
        ("https://host/?token=1", "contain credentials, a query"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Download(url, tmp_path / "got", None, HASTY)
    assert "secret" not in str(caught.value)


def test_the_command(site: Site, bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "got"
    words = ["fetch", f"{site.url}{MANIFEST_FILE}", "-o", str(target), "--json"]
    result = CliRunner().invoke(foggen, words)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["sha256"] == Manifest.load(bundle).sha256
    assert facts["bundle"] == str(target)
    assert same(bundle, target)
    remove(bundle)
    words[3] = str(tmp_path / "again")
    result = CliRunner().invoke(foggen, words)
    assert (result.exit_code, result.stdout) == (11, "")
    assert "HTTP status 404" in result.stderr


def test_what_comes_while_fetching_stays(
    site: Site, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, open_bundle = tmp_path / "got", Bundle.open

    def opening(directory: Path, *, verify: bool = False) -> Bundle:
        (target).mkdir()
        (target / "thesis.txt").write_text("years of work")
        return open_bundle(directory, verify=verify)

    monkeypatch.setattr("foggen_runtime.bundle.download.Bundle.open", opening)
    with pytest.raises(ConfigError, match=r"the bundle is whole in .*\.got\.partial: move it"):
        download(site, target)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]
    assert same(bundle, tmp_path / ".got.partial")


def test_a_linked_or_empty_target_is_filled(site: Site, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "got").symlink_to("disk")
    download(site, tmp_path / "got")
    assert (tmp_path / "got").readlink() == Path("disk")
    assert same(bundle, tmp_path / "disk")


def test_someone_elses_directory_is_not_emptied_for_partial_files(
    site: Site, tmp_path: Path
) -> None:
    partial = tmp_path / ".got.partial"
    partial.mkdir()
    (partial / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="must be empty or left by another fetch"):
        download(site, tmp_path / "got")
    assert [path.name for path in partial.iterdir()] == ["thesis.txt"]
