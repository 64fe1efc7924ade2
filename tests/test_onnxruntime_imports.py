"""Nothing here loads onnxruntime without having turned its telemetry off."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Also within a string: a program that a test runs. optimum and onnxruntime-genai load onnxruntime.
_MODULE = r"(onnxruntime|onnxruntime_genai|optimum)(\.\w+)*"
_LOADING = re.compile(
    rf"\bimport {_MODULE}( as |[\n\";,])|\bfrom {_MODULE} import"
    r"|from \"(onnxruntime|@huggingface)"
)
_TURNING_OFF = re.compile(
    r"ORT_DISABLE_TELEMETRY\"?\]? = \"1\"|turn_off_telemetry\(\)"
    r"|foggen_runtime\.model\.engine import"
)


def _programs() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.mjs"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def _is_too_early(text: str) -> bool:
    """Whether a program loads onnxruntime first."""
    loading = _LOADING.search(text)
    return loading is not None and _TURNING_OFF.search(text, 0, loading.start()) is None


def test_no_program_loads_it_first() -> None:
    this = Path(__file__)
    paths = [path for path in _programs() if path != this]
    assert ROOT / "runtime" / "foggen_runtime" / "model" / "quiet_onnxruntime.py" in paths
    too_early = [path for path in paths if _is_too_early(path.read_text(encoding="utf-8"))]
    assert too_early == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import onnxruntime as ort\n", True),
        ("from optimum.exporters.onnx import main_export\n", True),
        ('program = "import onnxruntime"\n', True),
        ('import { Tensor } from "onnxruntime-node";\nenv.ORT_DISABLE_TELEMETRY = "1";\n', True),
        ('os.environ["ORT_DISABLE_TELEMETRY"] = "1"\nimport onnxruntime_genai\n', False),
        ("turn_off_telemetry()\nimport onnxruntime as ort\n", False),
        ("from foggen_runtime.model.quiet_onnxruntime import ort\n", False),
    ],
)
def test_what_is_too_early(text: str, expected: bool) -> None:
    assert _is_too_early(text) is expected
