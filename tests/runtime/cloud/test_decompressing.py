import gzip
import zlib

import pytest

from foggen_runtime.cloud.decompressing import Decompressor

TEXT = b"".join(b"event %d\n" % i for i in range(10_000))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_body_comes_out_however_it_is_cut(compress: object, size: int) -> None:
    assert callable(compress)
    body = compress(TEXT)
    reading = Decompressor()
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert b"".join(piece for chunk in chunks for piece in reading.feed(chunk)) == TEXT


def test_what_was_flushed_comes_at_once() -> None:
    writing = zlib.compressobj(wbits=31)
    reading = Decompressor()
    for event in (b"data: a\n\n", b"data: b\n\n"):
        chunk = writing.compress(event) + writing.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(reading.feed(chunk)) == event


def test_a_bomb_comes_in_small_pieces_that_can_be_refused() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    pieces = Decompressor().feed(bomb)
    assert [len(next(pieces)) for _ in range(3)] == [1 << 16] * 3
    assert sum(map(len, pieces)) == (64 << 20) - (3 << 16)


def test_what_follows_the_end_is_left_alone_and_what_is_not_compressed_is_refused() -> None:
    assert b"".join(Decompressor().feed(gzip.compress(b"a") + b"junk")) == b"a"
    with pytest.raises(zlib.error):
        list(Decompressor().feed(b"data: a\n\n"))
