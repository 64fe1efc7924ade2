"""A module with a single importer has a reason to be one, which is stated here."""

import grimp

# By reason: what is a file of its own although one module alone imports it.
REASONS = {
    "one of several alternatives, chosen in one place": (
        *("exporter.architectures.gemma3", "exporter.architectures.llama"),
        *("exporter.architectures.qwen2", "exporter.architectures.qwen3"),
        *("exporter.packaging.android", "exporter.packaging.board"),
        *("runtime.decide.constrained", "runtime.decide.greedy"),
        *("runtime.evaluation.ray_executor", "runtime.text.library"),
    ),
    "the work of a command, behind a command line that imports nothing heavy": (
        *("exporter.cli", "exporter.exporting", "exporter.packaging.cli"),
        *("runtime.bundle.download", "runtime.evaluation.decision_logs"),
        *("runtime.model.preparing", "runtime.profiling.difference", "runtime.profiling.page"),
        *("runtime.profiling.tuning", "runtime.serving.server"),
    ),
    "a step of a longer way, to be read by itself": (
        *("exporter.bundle.directory", "exporter.calibration.cost", "exporter.export"),
        *("exporter.calibration.smoothing", "exporter.judging", "exporter.optimum_export"),
        *("exporter.weights.folding", "exporter.weights.locating", "exporter.weights.lora"),
        *("exporter.gguf.checkpoint", "exporter.gguf.config", "exporter.gguf.tokenizer"),
        *("exporter.text.token_tables", "exporter.bundle.card", "exporter.packaging.sbom"),
        *("runtime.ask.verdict", "runtime.cloud.exchange", "runtime.cloud.responses"),
        *("runtime.handoff.periodic_flushing", "runtime.model.decoders"),
        *("runtime.profiling.measuring", "runtime.serving.app", "runtime.serving.repeats"),
    ),
    "a graph of its own": (
        *("exporter.graphs.genai", "exporter.graphs.integer_matmul", "exporter.graphs.loop"),
        "exporter.graphs.optimum_graph",
    ),
    "the one place that knows a format, a library or the system's ways": (
        *("runtime.bundle.external_data", "runtime.bundle.verified"),
        *("runtime.cloud.connections", "runtime.cloud.event_loop", "runtime.handoff.rules"),
        *("runtime.model.processor", "runtime.model.telemetry", "runtime.profiling.memory"),
        *("runtime.profiling.operators", "runtime.profiling.sensors", "runtime.serving.frame"),
        *("runtime.serving.listening", "runtime.serving.protocol", "runtime.text.composing"),
    ),
    "statistics that know no decisions": (
        *("runtime.statistics.drift", "runtime.statistics.guarantee"),
        "runtime.statistics.welch",
    ),
}


def test_every_module_with_one_importer_has_a_reason() -> None:
    graph = grimp.build_graph("foggen_runtime", "foggen_exporter")
    found = {
        module.removeprefix("foggen_")
        for module in graph.modules
        if not graph.find_children(module)
        and len(graph.find_modules_that_directly_import(module)) == 1
    }
    assert found == {module for modules in REASONS.values() for module in modules}
