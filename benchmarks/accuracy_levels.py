"""What `accuracy_level` of `MatMulNBits` costs: processor time of one product of full size.

How many decisions it keeps is in results/recipes.md. Writes results/accuracy-levels.json and .md;
run as `python -m benchmarks.accuracy_levels` (`make accuracy-levels`).
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.machine import machine_kind, write_results
from foggen_exporter.graph import GraphBuilder, tensor_info
from foggen_exporter.matmul import emit_matmul
from foggen_exporter.matrix import Matrix
from foggen_runtime.manifest import WeightFormat

LEVELS = (1, 4)
REPETITIONS = 5
CHUNK = 2048


@dataclass(frozen=True)
class Product:
    """A product in Qwen3-0.6B: (rows, inputs) by a matrix of (outputs, inputs)."""

    name: str
    outputs: int
    inputs: int
    rows: int


PRODUCTS = (
    Product("gate and up, a question", 6144, 1024, 91),
    Product("gate and up, a token", 6144, 1024, 1),
    Product("a quarter of the output head, the tail", 151936 // 4, 1024, 7),
)


@dataclass(frozen=True)
class Row:
    """The least processor time of one product, on one thread, by level."""

    product: str
    rows: int
    bits: int
    milliseconds: dict[int, float]


def session(product: Product, form: WeightFormat) -> ort.InferenceSession:
    """Build a graph of one product with random weights, to run on the calling thread."""
    part = np.random.default_rng(0).normal(size=(CHUNK, product.inputs)).astype(np.float32)

    def chunks() -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, product.outputs, CHUNK):
            yield part[: product.outputs - start]

    g = GraphBuilder(weights=None)
    emit_matmul(g, "x", Matrix("y", (product.outputs, product.inputs), chunks), form)
    model = g.model(
        [tensor_info("x", np.float32, [1, "rows", product.inputs])],
        [tensor_info("y", np.float32, [1, "rows", product.outputs])],
        "benchmark",
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options)


def least_milliseconds(product: Product, form: WeightFormat) -> float:
    """Return the least processor time of some runs after a first."""
    opened = session(product, form)
    x = np.random.default_rng(1).normal(size=(1, product.rows, product.inputs)).astype(np.float32)
    opened.run(None, {"x": x})
    times = []
    for _ in range(REPETITIONS):
        started = time.thread_time()
        opened.run(None, {"x": x})
        times.append(1e3 * (time.thread_time() - started))
    return min(times)


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    names = " | ".join(f"level {level} ms" for level in LEVELS)
    lines = [f"| product | rows | bits | {names} |", "|---|---|---|" + "---|" * len(LEVELS)]
    for row in rows:
        times = " | ".join(f"{row.milliseconds[level]:.2f}" for level in LEVELS)
        lines.append(f"| {row.product} | {row.rows} | {row.bits} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time every product and write the results."""
    rows = []
    for product in PRODUCTS:
        for bits in (4, 8):
            forms = {level: WeightFormat(bits, 128, bits == 8, level) for level in LEVELS}
            times = {level: least_milliseconds(product, form) for level, form in forms.items()}
            rows.append(Row(product.name, product.rows, bits, times))
    document = {
        "machine": machine_kind(),
        "onnxruntime": version("onnxruntime"),
        "rows": [asdict(row) for row in rows],
    }
    write_results("accuracy-levels", document, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
