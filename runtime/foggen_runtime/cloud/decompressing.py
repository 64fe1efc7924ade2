"""Undoing a compression that the server applied although it was asked not to."""

import zlib
from collections.abc import Iterator

CODINGS = ("gzip", "x-gzip", "deflate")
_PIECE_BYTES = 1 << 16
_GZIP_OR_ZLIB = 47  # zlib's window bits that take either header


class Decompressor:
    """Reads a compressed body as its bytes come."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk holds, in pieces of at most 64 KiB: a bomb is seen before it bursts.

        Raises:
            zlib.error: It is not compressed so.
        """
        while not self._zlib.eof:
            piece = self._zlib.decompress(chunk, _PIECE_BYTES)
            chunk = self._zlib.unconsumed_tail
            if piece:
                yield piece
            if not chunk and len(piece) < _PIECE_BYTES:
                return
