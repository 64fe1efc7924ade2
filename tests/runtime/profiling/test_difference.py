"""Comparing profiles, against scipy's Welch."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from foggen_runtime.cli import foggen
from foggen_runtime.jsonio import dumps
from foggen_runtime.profiling.difference import difference
from foggen_runtime.profiling.schema import Profile
from tests.support.profiles import make_profile


def test_the_interval_is_welchs() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    a, b = generator.lognormal(2, 0.1, 5), generator.lognormal(2.2, 0.3, 7)
    change = difference(make_profile(list(a)), make_profile(list(b))).change("decision")
    assert change
    welch = stats.ttest_ind(np.log(b), np.log(a), equal_var=False).confidence_interval(0.95)
    assert change.low == pytest.approx(math.exp(welch.low), rel=1e-5)
    assert change.high == pytest.approx(math.exp(welch.high), rel=1e-5)
    assert change.slowdown == pytest.approx(stats.gmean(b) / stats.gmean(a))


@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        ((20.0, 20.1, 19.9), "slower"),
        ((5.0, 5.1, 4.9), "faster"),
        ((9.0, 12.0, 10.0), "no difference shown"),
        ((20.0,), "one process only"),
    ],
)
def test_verdicts(b: tuple[float, ...], verdict: str) -> None:
    change = difference(make_profile((10.0, 10.1, 9.9)), make_profile(b)).change("decision")
    assert change
    assert change.verdict == verdict


def test_a_lower_rate_is_a_slowdown() -> None:
    found = difference(make_profile((10.0, 10.0), rate=100), make_profile((10.0, 10.0), rate=50))
    change = found.change("pp128")
    assert change
    assert change.slowdown == pytest.approx(2)
    assert change.verdict == "slower"


def test_five_equal_processes_seldom_look_different() -> None:
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        a, b = generator.lognormal(2, 0.1, (2, 5))
        change = difference(make_profile(list(a)), make_profile(list(b))).change("decision")
        assert change
        wrong += change.verdict != "no difference shown"
    assert wrong / 200 < 0.09  # 5 % are expected


def compare(tmp_path: Path, a: Profile, b: Profile, *options: str) -> Result:
    for name, profile in (("a", a), ("b", b)):
        (tmp_path / f"{name}.json").write_text(dumps(profile), encoding="utf-8")
    files = [str(tmp_path / f"{name}.json") for name in ("a", "b")]
    return CliRunner().invoke(foggen, ["profile", "compare", *files, *options])


SLOW, FAST = make_profile((20.0, 20.1, 19.9)), make_profile((10.0, 10.1, 9.9))


@pytest.mark.parametrize(
    ("a", "b", "options", "code"),
    [
        (FAST, SLOW, ("--max-slowdown", "1.1"), 1),
        (FAST, SLOW, ("--max-slowdown", "2.5"), 0),
        (FAST, SLOW, (), 0),
        (SLOW, FAST, ("--max-slowdown", "1.1"), 0),
        (FAST, SLOW, ("--max-slowdown", "1.1", "--metric", "pp128"), 0),
        (FAST, SLOW, ("--max-slowdown", "1.1", "--metric", "pp128", "--metric", "decision"), 1),
        (FAST, SLOW, ("--max-slowdown", "1.1", "--metric", "speed"), 2),
        (make_profile((10.0,)), SLOW, ("--max-slowdown", "1.1"), 2),
    ],
)
def test_exit_codes(
    tmp_path: Path, a: Profile, b: Profile, options: tuple[str, ...], code: int
) -> None:
    assert compare(tmp_path, a, b, *options).exit_code == code


def test_a_slowdown_that_chance_explains_passes(tmp_path: Path) -> None:
    noisy = make_profile((10.0, 14.0, 13.0))
    assert compare(tmp_path, FAST, noisy, "--max-slowdown", "1.1").exit_code == 0


def test_json_and_page(tmp_path: Path) -> None:
    document = json.loads(compare(tmp_path, FAST, SLOW, "--json").stdout)
    decision = next(row for row in document["changes"] if row["metric"] == "decision")
    assert decision["slowdown"] == pytest.approx(2, rel=0.01)
    page = compare(tmp_path, FAST, SLOW).stdout
    assert "decision, ms " in page
    assert "slower" in page


def test_other_devices_and_settings_are_named(tmp_path: Path) -> None:
    document = json.loads(dumps(SLOW))
    document["device"]["board"] = "Another"
    document["settings"]["threads"] = 3
    (tmp_path / "c.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "a.json").write_text(dumps(FAST), encoding="utf-8")
    names = [str(tmp_path / "a.json"), str(tmp_path / "c.json")]
    page = CliRunner().invoke(foggen, ["profile", "compare", *names]).stdout
    assert "- the devices differ" in page
    assert "- threads: A has None, B has 3" in page


def test_a_newer_profile_is_refused(tmp_path: Path) -> None:
    document = {**json.loads(dumps(SLOW)), "schema_version": 2}
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    name = str(tmp_path / "a.json")
    result = CliRunner().invoke(foggen, ["profile", "compare", name, name])
    assert result.exit_code == 2
    assert "schema_version: this foggen reads up to 1, is 2" in result.stderr
