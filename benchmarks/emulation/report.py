"""The rows of emulated runs, and the page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.emulation.difference import Difference

_PAGE = """\
# Decisions on emulated processors

**Instruction sets were emulated: this shows correctness only. It says nothing about speed, and no
device was involved.** {emulator} ran onnxruntime {onnxruntime}'s own ARM64 and x86-64 kernels, one
thread. `native` is the machine that emulated, {native}.

The first {questions} held-out questions of the tiny FogGen (`tests/tiny_foggen`; the file is
shuffled), tau = {tau:g}. A flip is a question answered locally by one and deferred by the other;
"at most" is the exact one-sided 95 % upper bound of the flip rate. Δ is the mean absolute change of
the expected confidence.

`int4-symmetric` is int4 with `--symmetric`: without zero points, and onnxruntime hands it to
KleidiAI on ARM.

| emulated as | stands for |
|---|---|
| cortex-a76 | cores with the dot product: Raspberry Pi 5, RK3588 |
| cortex-a72 | cores without it, Raspberry Pi 4: weights in blocks fall back to fp32 products |
| haswell | x86-64 with AVX2 and no VNNI: pairs of 8-bit products are added in 16 bits |

## What the processor changes: against the same recipe, native

{against_native}
## What recipe and processor change together: against fp32, native

{against_fp32}"""


@dataclass(frozen=True)
class Row:
    """One run against two references.

    Attributes:
        recipe: Its name.
        machine: Where it ran.
        kleidiai: Whether ARM's KleidiAI kernels were allowed.
        against_native: Compared with the same recipe on this machine.
        against_fp32: Compared with fp32 on this machine.
    """

    recipe: str
    machine: str
    kleidiai: bool
    against_native: Difference
    against_fp32: Difference


@dataclass(frozen=True)
class Report:
    """All that is written.

    Attributes:
        native: The kind of machine that emulated.
        emulator: Its name and version.
        onnxruntime: Its version, the same everywhere.
        tau: Confidence below this defers.
        questions: How many were asked of each run.
        rows: One for each run that succeeded.
        failures: Why others did not.
    """

    native: str
    emulator: str
    onnxruntime: str
    tau: float
    questions: int
    rows: tuple[Row, ...]
    failures: tuple[str, ...]

    def page(self) -> str:
        """Return the report as Markdown."""
        emulated = [row for row in self.rows if row.machine != "native"]
        text = _PAGE.format(
            native=self.native,
            emulator=self.emulator,
            onnxruntime=self.onnxruntime,
            tau=self.tau,
            questions=self.questions,
            against_native=_table([(row, row.against_native) for row in emulated]),
            against_fp32=_table([(row, row.against_fp32) for row in self.rows]),
        )
        if self.failures:
            text += "\n## Not counted\n\n" + "".join(f"- {failure}\n" for failure in self.failures)
        return text


def _table(lines: Sequence[tuple[Row, Difference]]) -> str:
    head = "| recipe | machine | flips | at most | level changes | answers agree | Δ |\n"
    return head + "|---|---|---|---|---|---|---|\n" + "".join(_line(*line) for line in lines)


def _line(row: Row, difference: Difference) -> str:
    machine = row.machine if row.kleidiai else f"{row.machine}, KleidiAI disabled"
    change = difference.confidence_change
    return (
        f"| {row.recipe} | {machine} | {difference.flips} ({difference.flip_rate:.1%}) "
        f"| {difference.flip_rate_upper_bound:.1%} | {difference.level_changes:.1%} "
        f"| {difference.answer_agreement:.1%} | {'-' if change is None else f'{change:.1e}'} |\n"
    )
