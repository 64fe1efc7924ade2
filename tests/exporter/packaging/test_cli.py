"""The command `foggen-package`, and what is in what it makes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from foggen_exporter.packaging import android, archive
from foggen_exporter.packaging.android import write_layouts
from foggen_exporter.packaging.archive import write_archive
from foggen_exporter.packaging.cli import package_command
from foggen_exporter.packaging.libraries import Pip
from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest, RoutingInfo
from tests.exporter.packaging.conftest import PYTHON, Unpacked, this_machine

RESOLVE_ONCE = cache(Pip.resolve)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an empty directory; pip, which takes seconds, is asked the same only once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pip, "resolve", RESOLVE_ONCE)


def package(*words: object) -> Result:
    return CliRunner().invoke(package_command, [str(word) for word in words])


def for_arm64(unpacked: Unpacked, wheels: Path, output: str, *more: object) -> Result:
    words = [unpacked.bundle, "--target", "linux-arm64", "-o", output, "--cache", wheels]
    return package(*words, *more)


def test_the_package_holds_what_its_description_says(unpacked: Unpacked) -> None:
    facts = json.loads((unpacked.directory / "package.json").read_text())
    assert facts["name"] == unpacked.directory.name
    assert facts["pythons"] == [PYTHON]
    assert facts["target"] == this_machine().name
    assert facts["glibc"] == "2.28"
    assert facts["bundle"]["sha256"] == Manifest.load(unpacked.bundle).sha256
    metadata = (unpacked.directory / "lib").glob("*.dist-info/METADATA")
    found = {}
    for path in metadata:
        text = path.read_text(encoding="utf-8")
        name = re.findall(r"^Name: (.*)$", text, re.MULTILINE)[0]
        found[name] = re.findall(r"^Version: (.*)$", text, re.MULTILINE)[0]
    assert found == facts["versions"]
    assert set(facts["wheels"]) >= {f"click-{found['click']}-py3-none-any.whl"}


def test_what_a_board_never_runs_is_left_out(unpacked: Unpacked) -> None:
    names = [
        path.relative_to(unpacked.directory / "lib")
        for path in unpacked.directory.rglob("*")
        if path.is_relative_to(unpacked.directory / "lib")
    ]
    tops = {name.parts[0] for name in names if name.parts}
    assert "foggen_runtime" in tops
    assert "foggen_exporter" not in tops
    assert Path("numpy/quantization/tool.py") in names, "the small wheels have such a directory"
    assert Path("onnxruntime/quantization/tool.py") not in names
    assert not [name for name in names if "__pycache__" in name.parts]


def test_every_component_has_its_licence(unpacked: Unpacked) -> None:
    facts = json.loads((unpacked.directory / "package.json").read_text())
    index = (unpacked.directory / "licenses" / "README.md").read_text()
    for name, version in facts["versions"].items():
        assert f"| {name} | {version} | " in index
        assert list((unpacked.directory / "licenses" / f"{name}-{version}").iterdir())


def test_the_bill_of_materials_is_cyclonedx(unpacked: Unpacked) -> None:
    text = (unpacked.directory / "sbom.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"bookshelf"')) is not None
    document = json.loads(text)
    facts = json.loads((unpacked.directory / "package.json").read_text())
    found = {part["name"]: part["version"] for part in document["components"]}
    own = document["metadata"]["component"]
    found[own["name"]] = own["version"]
    model = facts["bundle"]
    assert found == {**facts["versions"], model["name"]: model["sha256"][:12]}
    hashes = {
        reference["url"]: reference["hashes"][0]["content"]
        for part in document["components"]
        for reference in part.get("externalReferences", ())
    }
    assert hashes == facts["wheels"]
    references = {part["bom-ref"] for part in (*document["components"], own)}
    for edge in document["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= references


def test_the_same_input_gives_the_same_bytes(unpacked: Unpacked, wheels: Path) -> None:
    command = [sys.executable, "-c", "from foggen_exporter.packaging import main; main()"]
    command += [str(unpacked.bundle), "--target", this_machine().name, "--python", PYTHON]
    subprocess.run(
        [*command, "--cache", wheels, "-o", "again.tar.xz"],
        env={**os.environ, "TZ": "Asia/Almaty", "LC_ALL": "C", "PYTHONHASHSEED": "7"},
        umask=0o077,
        check=True,
    )
    assert Path("again.tar.xz").read_bytes() == unpacked.archive.read_bytes()


def test_one_package_serves_several_pythons(unpacked: Unpacked, wheels: Path) -> None:
    for_arm64(unpacked, wheels, "a.tar.xz", "--without-model")
    with tarfile.open("a.tar.xz") as tar:
        names = [name.partition("/")[2] for name in tar.getnames()]
    for version in ("311", "312", "313"):
        assert f"lib/numpy/_core.cpython-{version}-aarch64-linux-gnu.so" in names
    assert names[-1] == "install.sh"
    assert not [name for name in names if name.startswith("bundle")]


def test_parts_join_to_the_package(unpacked: Unpacked, wheels: Path) -> None:
    result = for_arm64(unpacked, wheels, "a.tar.xz", "--split", "500kB", "--json")
    facts = json.loads(result.stdout)
    parts = sorted(Path.cwd().glob("a.tar.xz.0*"))
    assert [path.name for path in parts] == list(facts["files"])
    assert len(parts) > 1
    subprocess.run("cat a.tar.xz.[0-9]* | tar xJ", shell=True, check=True)
    assert next(Path.cwd().glob("foggen-*-linux-arm64/install.sh")).exists()
    again = for_arm64(unpacked, wheels, "a.tar.xz")
    assert "exists already; --force replaces it" in again.stderr


def test_android_layouts(unpacked: Unpacked) -> None:
    result = package(unpacked.bundle, "--target", "android", "-o", "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["delivery"] == "fast-follow"
    manifest = Manifest.load(unpacked.bundle)
    pack = Path("out/asset-pack/foggen_bundle")
    assert 'packName.set("foggen_bundle")' in (pack / "build.gradle.kts").read_text()
    assert 'deliveryType.set("fast-follow")' in (pack / "build.gradle.kts").read_text()
    for place in (pack / "src/main/assets/foggen", Path("out/adb-push/bundle")):
        names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        assert names == {"foggen.json", *manifest.files}
        assert Manifest.load(place).sha256 == manifest.sha256
    words = ["sha256sum", "-c", "../SHA256SUMS"]
    checked = subprocess.run(
        words, cwd="out/adb-push/bundle", check=True, capture_output=True, text=True
    )
    assert checked.stdout.count(": OK") == len(manifest.files)
    assert json.loads(Path("out/package.json").read_text())["bundle"]["sha256"] == manifest.sha256
    assert package(unpacked.bundle, "--target", "android", "-o", "out").exit_code == 1
    forced = package(
        unpacked.bundle, "--target", "android", "-o", "out", "--force", "--delivery", "on-demand"
    )
    assert forced.exit_code == 0
    assert 'deliveryType.set("on-demand")' in (pack / "build.gradle.kts").read_text()
    assert [path.name for path in Path.cwd().iterdir()] == ["out"]


def test_android_layouts_replace_nothing_but_such_layouts(unpacked: Unpacked) -> None:
    words = (unpacked.bundle, "--target", "android", "-o", "out", "--force")
    documents = Path("out")
    documents.mkdir()
    (documents / "package.json").write_text('{"name": "my-app"}')
    refused = package(*words)
    assert refused.exit_code == 1
    assert "out is not empty and is not a package for android" in refused.stderr
    assert [path.name for path in documents.iterdir()] == ["package.json"]
    (documents / "package.json").unlink()
    assert package(*words).exit_code == 0
    (documents / "thesis.txt").write_text("years of work")
    refused = package(*words)
    assert "out holds thesis.txt, which is not part of the package" in refused.stderr
    assert (documents / "thesis.txt").exists()


def calibrate(bundle: Path) -> None:
    """Choose another tau, as `foggen calibrate` does: the manifest is replaced."""
    manifest = Manifest.load(bundle)
    replace(manifest, routing=RoutingInfo(manifest.routing.tau / 2)).save(bundle)


@pytest.fixture
def bundle(unpacked: Unpacked, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(unpacked.bundle, tmp_path / "bundle"))


def test_a_bundle_may_be_calibrated_meanwhile(
    bundle: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()

    def write_later(*arguments: Any) -> list[Path]:
        calibrate(bundle)
        return write_archive(*arguments)

    monkeypatch.setattr(archive, "write_archive", write_later)
    words = ["--target", this_machine().name, "--python", PYTHON, "--cache", wheels]
    result = package(bundle, *words, "-o", "a.tar.xz")
    assert result.exit_code == 0, result.output
    assert (bundle / MANIFEST_FILE).read_bytes() != before
    subprocess.run(["tar", "xf", "a.tar.xz"], check=True)
    (directory,) = Path.cwd().glob("foggen-*-linux-*")
    done = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=directory, check=False)
    assert done.returncode == 0
    assert (directory / "bundle" / MANIFEST_FILE).read_bytes() == before


def test_the_layouts_hold_the_manifest_that_was_read(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()

    def write_later(*arguments: Any) -> None:
        calibrate(bundle)
        write_layouts(*arguments)

    monkeypatch.setattr(android, "write_layouts", write_later)
    assert package(bundle, "--target", "android", "-o", "out").exit_code == 0
    assert Path("out/adb-push/bundle", MANIFEST_FILE).read_bytes() == before


@pytest.mark.parametrize("target", ["android", "linux"])
def test_a_bundle_that_is_exported_again_meanwhile_is_no_package(
    bundle: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def alter() -> None:
        content = bytearray((bundle / "model.onnx.data").read_bytes())
        content[1000] ^= 1
        (bundle / "model.onnx.data").write_bytes(content)

    def write_later(*arguments: Any) -> list[Path]:
        alter()
        return write_archive(*arguments)

    def lay_out_later(*arguments: Any) -> None:
        alter()
        write_layouts(*arguments)

    monkeypatch.setattr(archive, "write_archive", write_later)
    monkeypatch.setattr(android, "write_layouts", lay_out_later)
    words = ["--target", "android", "-o", "out"]
    if target == "linux":
        words = ["--target", this_machine().name, "--python", PYTHON, "-o", "out.tar.xz"]
        words += ["--cache", str(wheels)]
    result = package(bundle, *words)
    assert result.exit_code == 1
    assert "model.onnx.data was changed while it was being packaged" in result.stderr
    assert [path.name for path in Path.cwd().iterdir()] == ["bundle"]


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_who_may_read_the_layouts_is_up_to_the_umask(unpacked: Unpacked, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert package(unpacked.bundle, "--target", "android", "-o", "out").exit_code == 0
    finally:
        os.umask(before)
    for path in Path("out").rglob("*"):
        wanted = 0o777 if path.is_dir() or path.name == "push.sh" else 0o666
        assert path.stat().st_mode & 0o777 & ~0o222 == wanted & ~mask & ~0o222, path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "android", "-o", "x", "--split", "50MB"), "split: must be left out"),
        (("--target", "android", "-o", "x", "--without-model"), "without-model: must be left out"),
        (("--target", "linux-x64", "-o", "x.zip"), "output: must end in .tar.xz"),
        (("--target", "linux-x64", "-o", "x.tar.xz", "--python", "3.10"), "python: must be"),
        (("--target", "linux-x64", "-o", "x.tar.xz", "--split", "1"), "split: must be a size"),
        (("--target", "linux-x64", "-o", "x.tar.xz", "--delivery", "on-demand"), "delivery: must"),
        (("--target", "linux-x64", "-o", "x.tar.xz", "--constraint", "no"), "constraint: cannot"),
    ],
)
def test_what_makes_no_sense_is_refused(
    unpacked: Unpacked, words: tuple[str, ...], message: str
) -> None:
    result = package(unpacked.bundle, *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert list(Path.cwd().iterdir()) == []


def test_no_bundle_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = package("empty", "--target", "linux-arm64", "-o", "a.tar.xz")
    assert result.exit_code == 1
    assert "is not a bundle" in result.stderr


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("target", "output", "step"),
    [
        ("linux-arm64", "a.tar.xz", "foggen_exporter.packaging.archive._write_tar"),
        ("android", "out", "foggen_exporter.packaging.android.write_layouts"),
    ],
)
def test_ctrl_c_leaves_nothing_behind(
    unpacked: Unpacked,
    wheels: Path,
    target: str,
    output: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, interrupt)
    if target == "android":
        result = package(unpacked.bundle, "--target", target, "-o", output)
    else:
        result = for_arm64(unpacked, wheels, output)
    assert result.exit_code == 130
    assert f"Interrupted: no package is written, {output} is unchanged\n" in result.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("split", [(), ("--split", "500kB")])
def test_it_unpacks_as_advised(unpacked: Unpacked, wheels: Path, split: tuple[str, ...]) -> None:
    result = for_arm64(unpacked, wheels, "my package.tar.xz", *split)
    assert re.match(r"my package\.tar\.xz: \d+\.\d MB, packaged for linux-arm64 ", result.stdout)
    (advice,) = re.findall(
        r"^On the board: (.*) && (?:.*install\.sh)$", result.stderr, re.MULTILINE
    )
    subprocess.run(advice, shell=True, check=True)
    assert len(list(Path.cwd().glob("foggen-*/install.sh"))) == 1


def test_quiet_leaves_the_result_alone(unpacked: Unpacked) -> None:
    result = package(unpacked.bundle, "--target", "android", "-o", "out", "--quiet")
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""
