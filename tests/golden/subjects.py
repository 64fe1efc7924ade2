"""The bundles that are asked: exports of the tiny FogGen, some of them altered afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from foggen_runtime.bundle.manifest import CalibrationInfo, Manifest, RoutingInfo, file_info
from foggen_runtime.model.decoding import DecodingMode
from tests.support.export import export_bundle

# No question's expected confidence comes nearer to it than kernels may differ.
_EXPECTED_TAU = 0.65


@dataclass(frozen=True)
class Subject:
    """One bundle.

    Attributes:
        recipe: How it is quantized.
        traces: Name of the file of its traces, in which subjects may share.
        tolerance: How far probabilities may be from the traces', absolute: kernels differ between
            processors and versions of onnxruntime.
        modes: How it is asked. Greedy and plain decoding are held to fp32 only: with quantized
            products, passes of other widths differ in the last digits.
        alter: Changes the exported directory.
    """

    recipe: str
    traces: str
    tolerance: float
    modes: tuple[DecodingMode, ...] = ("constrained",)
    alter: Callable[[Path], None] | None = None

    def make(self, checkpoint: Path, directory: Path) -> Path:
        """Export the checkpoint into a directory, and alter what was exported."""
        bundle = export_bundle(checkpoint, directory, self.recipe)
        if self.alter:
            self.alter(bundle)
        return bundle


def compare_expected(bundle: Path) -> None:
    """Compare tau with the expected confidence, as a calibration may choose."""
    manifest = Manifest.load(bundle)
    calibration = CalibrationInfo(
        method="observed",
        target="max_cloud_share",
        limit=0.5,
        on="expected",
        tau=_EXPECTED_TAU,
        observed=0.5,
        bound=None,
        certainty=None,
        questions=1,
        data_sha256="0" * 64,
        date="2026-01-01",
        level_shares=(0.2,) * len(manifest.template.levels),
    )
    replace(manifest, routing=RoutingInfo(_EXPECTED_TAU, calibration)).save(bundle)


def take_positions(bundle: Path) -> None:
    """Keep past and present apart and rotate by `position_ids`, as other exporters' graphs do."""
    manifest = Manifest.load(bundle)
    path = bundle / manifest.graph.file
    model = onnx.load(path, load_external_data=False)
    name, shape = "position_ids", ["batch", "sequence"]
    model.graph.input.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)
    )
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.input.append(name)
    onnx.save(model, path)
    graph = replace(manifest.graph, shared_cache=False, position_ids=True)
    files = {**manifest.files, path.name: file_info(path)}
    replace(manifest, graph=graph, files=files).save(bundle)


SUBJECTS = {
    "fp32": Subject("fp32", "fp32", 1e-4, ("constrained", "greedy", "step")),
    "fp32-positions": Subject(
        "fp32", "fp32", 1e-4, ("constrained", "greedy", "step"), alter=take_positions
    ),
    "int8": Subject("int8", "int8", 0.01),
    "int4": Subject("int4", "int4", 0.01),
    "int4-expected": Subject("int4", "int4-expected", 0.01, alter=compare_expected),
}
