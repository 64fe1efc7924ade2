"""A tokenizer that is not byte-level BPE is the library's, which an extra brings."""

import json
import sys
from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.text.tokenizer import QuestionTokenizer


def test_where_the_library_is_missing_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"added_tokens": [], "model": {"type": "Unigram", "vocab": []}}))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError) as caught:
        QuestionTokenizer.from_file(path)
    assert str(caught.value) == (
        "tokenizer: is not byte-level BPE, so it needs the tokenizers library: "
        "pip install 'foggen[tokenizers]'"
    )
