"""Getting a published bundle from a web server, over links that break.

Any server of static files will do. What has arrived is kept in a directory next to the target; the
next run asks for the rest (`Range`, RFC 9110 section 14), and the bundle appears in its place once
every file has the size and hash that its manifest lists. No proxy or certificate is taken from the
environment.
"""

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, FileInfo, Manifest
from foggen_runtime.errors import BundleError, ConfigError, DownloadError
from foggen_runtime.files import open_to_append, sha256_file, write_text_atomically
from foggen_runtime.placing import followed, is_free

_MAX_REDIRECTS = 5
_FULL, _PART, _BEYOND_THE_END = 200, 206, 416

Advance = Callable[[int], object]


@dataclass(frozen=True)
class DownloadOptions:
    """How to reach the server.

    Attributes:
        timeout: Seconds to wait for a connection, and for the next bytes.
        attempts: Give up after this many failures in a row that brought no byte.
        pause: Seconds before the second attempt; doubled after each.
        proxy: An HTTP proxy's URL.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts: must be at least 1, is {self.attempts}")
        if not self.timeout > 0:
            raise ConfigError(f"timeout: must be above 0 seconds, is {self.timeout:g}")


class Download:
    """A download of a bundle from a server into a directory.

    Args:
        url: The bundle's directory on the server, or its `foggen.json`.
        target: Where the bundle goes; must be empty or not exist, or already be this very bundle.
        sha256: The bundle's hash, as `foggen inspect` shows it; None accepts any.
        options: How to reach the server.

    Raises:
        ConfigError: The URL or an option is wrong.
    """

    def __init__(
        self, url: str, target: Path, sha256: str | None, options: DownloadOptions
    ) -> None:
        self._base = _base_of(url)
        self._target = followed(target)
        self._sha256 = sha256.lower() if sha256 else None
        self._options = options
        try:
            self._client = httpx.Client(
                follow_redirects=True,
                headers={"Accept-Encoding": "identity"},  # ranges count the file's own bytes
                max_redirects=_MAX_REDIRECTS,
                proxy=options.proxy,
                timeout=options.timeout,
                trust_env=False,
            )
        except ValueError as error:
            raise ConfigError(f"proxy: cannot be used: {error}") from error

    @property
    def partial(self) -> Path:
        """Where the files are kept until all of them have arrived."""
        return self._target.with_name(f".{self._target.name}.partial")

    def run(self, announce: Callable[[Manifest, int], Advance]) -> Manifest:
        """Fetch what is missing and put the bundle in its place.

        Args:
            announce: Called with the manifest and how many bytes are missing, before they are
                fetched; returns what to call with each number of bytes that arrives.

        Returns:
            The bundle's manifest.

        Raises:
            BundleError: The server's bundle is not the one wanted, or is damaged.
            ConfigError: The target is in use, or there is no room.
            DownloadError: The server cannot be reached or has no such file.
        """
        with self._client, self._claimed():
            try:
                self._sweep()
                return self._run(announce)
            except OSError as error:
                raise ConfigError(f"output: cannot write {self.partial}: {error}") from error

    def _run(self, announce: Callable[[Manifest, int], Advance]) -> Manifest:
        manifest = self._manifest()
        if not is_free(self._target):
            return self._present(manifest)
        missing = sum(self._missing(name, info) for name, info in manifest.files.items())
        free = shutil.disk_usage(self.partial).free
        if missing > free:
            raise ConfigError(
                f"output: needs {missing / 1e6:.0f} MB free at {self._target.parent}, "
                f"has {free / 1e6:.0f} MB"
            )
        advance = announce(manifest, missing)
        for name, info in manifest.files.items():
            self._fetch_file(name, info, advance)
        # Reads every byte again and notes that all is right, so that later uses need not.
        bundle = Bundle.open(self.partial, verify=True)
        try:
            self.partial.rename(self._target)
        except OSError as error:
            raise ConfigError(
                f"output: cannot be put at {self._target}: {error.strerror}; the bundle is whole "
                f"in {self.partial}: move it where you want it"
            ) from error
        (self._target / _LOCK_FILE).unlink()
        return bundle.manifest

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Keep a second run away from the partial files."""
        try:
            self.partial.mkdir(0o775, parents=True, exist_ok=True)
            self._check_owner()
            if not (is_free(self.partial) or self._is_ours()):
                raise ConfigError(
                    f"output: {self.partial} must be empty or left by another fetch, holds "
                    "something else; move it away"
                )
            lock = open_to_append(self.partial / _LOCK_FILE)
        except OSError as error:
            raise ConfigError(f"output: cannot write {self.partial}: {error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"output: another run is fetching to {self._target}") from None
            yield

    def _is_ours(self) -> bool:
        """Whether the directory for partial files was left by an earlier run."""
        return any((self.partial / name).exists() for name in (_LOCK_FILE, MANIFEST_FILE))

    def _check_owner(self) -> None:
        """Refuse a directory for partial files that somebody else made or may change.

        Raises:
            ConfigError: It is a link, or other users may write to it.
        """
        found = self.partial.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or found.st_mode & stat.S_IWOTH:
            raise ConfigError(
                f"output: {self.partial} must be a directory that only you can write to, is not; "
                "remove it and run again"
            )

    def _sweep(self) -> None:
        """Remove from the partial files what was not fetched: links, pipes and the like."""
        for directory, directories, names in os.walk(self.partial):
            for name in (*directories, *names):
                path = Path(directory, name)
                found = path.lstat()
                fetched = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
                if not fetched and not stat.S_ISDIR(found.st_mode):
                    path.unlink()

    def _present(self, manifest: Manifest) -> Manifest:
        """Accept a target that is the wanted bundle already.

        Raises:
            ConfigError: It is something else.
        """
        try:
            same = Bundle.open(self._target).manifest.sha256 == manifest.sha256
        except BundleError:
            same = False
        if not same:
            raise ConfigError(f"output: {self._target} exists already and is not this bundle")
        shutil.rmtree(self.partial)
        return manifest

    def _manifest(self) -> Manifest:
        """Fetch the manifest; partial files of another bundle are deleted."""
        text = self._get_small(MANIFEST_FILE)
        kept = self.partial / MANIFEST_FILE
        if not kept.exists() or kept.read_bytes() != text:
            for path in self.partial.iterdir():
                if path.name != _LOCK_FILE:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            try:
                write_text_atomically(kept, text.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise BundleError(f"{self._base}{MANIFEST_FILE}: must be UTF-8: {error}") from error
        manifest = Manifest.load(self.partial)
        if self._sha256 is not None and manifest.sha256 != self._sha256:
            kept.unlink()
            raise BundleError(
                f"{self._base}: bundle's SHA-256 must be {self._sha256}, is {manifest.sha256}"
            )
        return manifest

    def _get_small(self, name: str) -> bytes:
        content = bytearray()

        def receive() -> None:
            content.clear()
            with self._request(name, 0) as response:
                for chunk in response.iter_raw():
                    content.extend(chunk)
                    if len(content) > MAX_MANIFEST_BYTES:
                        raise BundleError(
                            f"{self._base}{name}: must have at most {MAX_MANIFEST_BYTES} bytes"
                        )

        self._attempt(receive, lambda: 0)
        return bytes(content)

    def _missing(self, name: str, info: FileInfo) -> int:
        path = self.partial / name
        return info.bytes - min(path.stat().st_size, info.bytes) if path.exists() else info.bytes

    def _fetch_file(self, name: str, info: FileInfo, advance: Advance) -> None:
        """Fetch the rest of a file; if the whole turns out wrong, fetch all of it once more."""
        path = self.partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            resumed = self._missing(name, info) < info.bytes
            if not path.exists() or self._missing(name, info) > 0:
                self._attempt(
                    lambda: self._receive(name, info, advance),
                    lambda: info.bytes - self._missing(name, info),
                )
            digest = sha256_file(path)
            if path.stat().st_size == info.bytes and digest == info.sha256:
                return
            path.unlink()
            if last or not resumed:
                raise BundleError(
                    f"{self._base}{name}: SHA-256 must be {info.sha256}, is {digest}: "
                    "the file on the server is not the one the manifest lists"
                )

    def _receive(self, name: str, info: FileInfo, advance: Advance) -> None:
        with open_to_append(self.partial / name) as file:
            start = file.tell()
            if start >= info.bytes:
                file.truncate(start := 0)
            with self._request(name, start) as response:
                if response.status_code == _FULL and start:
                    advance(-start)
                    file.truncate(0)
                    start = 0
                for chunk in response.iter_raw():
                    start += len(chunk)
                    if start > info.bytes:
                        raise BundleError(
                            f"{self._base}{name}: must have {info.bytes} bytes, has more"
                        )
                    file.write(chunk)
                    advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if start < info.bytes:
            raise httpx.RemoteProtocolError(f"the server sent {start} of {info.bytes} bytes")

    @contextmanager
    def _request(self, name: str, start: int) -> Iterator[httpx.Response]:
        """Ask for a file, starting at a byte.

        Raises:
            DownloadError: The server refuses, and would do so again.
            httpx.HTTPError: It failed, but the next try may not.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream("GET", self._base + quote(name), headers=headers) as response:
            if self._base.startswith("https:") and response.url.scheme != "https":
                raise DownloadError(
                    f"{self._base}{name}: must stay on https, is redirected to {response.url}"
                )
            status = response.status_code
            if status == _BEYOND_THE_END or (status == _PART and not _starts_at(response, start)):
                (self.partial / name).unlink(missing_ok=True)
                raise httpx.RemoteProtocolError("the server's file has another length")
            if status in (408, 429) or status >= 500:
                raise httpx.RemoteProtocolError(f"HTTP status {status}")
            if status not in (_FULL, _PART):
                raise DownloadError(f"{self._base}{name}: cannot be fetched, HTTP status {status}")
            yield response

    def _attempt(self, work: Callable[[], None], progress: Callable[[], int]) -> None:
        """Do the work, repeating it after a failure until too many in a row got no further."""
        pause, failures, furthest = self._options.pause, 0, -1
        while True:
            try:
                return work()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reached = progress()
                if reached > furthest:
                    pause, failures, furthest = self._options.pause, 0, reached
                failures += 1
                if failures >= self._options.attempts:
                    reason = str(error) or type(error).__name__
                    raise DownloadError(
                        f"{self._base}: {failures} attempts failed, the last: {reason}; what has "
                        f"arrived is kept in {self.partial}, run the command again to continue"
                    ) from error
                time.sleep(pause)
                pause *= 2


_LOCK_FILE = ".lock"


def _base_of(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"url: cannot be read: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"url: must begin with http:// or https:// and a host, is {url!r}")
    if parsed.query or parsed.fragment or parsed.userinfo:
        raise ConfigError("url: must not contain credentials, a query or a fragment")
    return url.removesuffix(MANIFEST_FILE).rstrip("/") + "/"


def _starts_at(response: httpx.Response, start: int) -> bool:
    content_range: str = response.headers.get("Content-Range", "")
    return content_range.startswith(f"bytes {start}-")
