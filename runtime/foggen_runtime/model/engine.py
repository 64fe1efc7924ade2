"""The only module that talks to onnxruntime: token ids in, logits out, a KV cache in between."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import GraphInfo, ModelInfo
from foggen_runtime.errors import BundleError, ConfigError, EngineError
from foggen_runtime.model.cores import big_cores
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.quiet_onnxruntime import ort

# Long prompts are fed in chunks, because attention's scratch memory grows with a chunk's square.
# Chunk lengths are even, because then int4 products equal those of one long chunk bit for bit: an
# odd last row would go to another kernel.
_CHUNK_TOKENS = 512

# Smaller weights stay in a prepared model's graph file.
_EXTERNAL_BYTES = 1024

ONNXRUNTIME_VERSION: str = ort.__version__

_PAST_KEY = re.compile(r"past_key_values\.[0-9]+\.key")


@dataclass(frozen=True)
class EngineOptions:
    """How onnxruntime uses the device.

    Attributes:
        threads: Worker threads; None takes the physical big cores.
        spinning: Whether idle workers spin, trading battery for latency.
        arena: Whether onnxruntime keeps freed memory for the next pass.
        kleidiai: Whether to use ARM's KleidiAI kernels; without them ARM gives x86's numbers.
        trace: Where onnxruntime's profiler writes every operator's time, as the beginning of a
            file's name; tracing itself costs time. None for no trace.
    """

    threads: int | None = None
    spinning: bool = True
    arena: bool = True
    kleidiai: bool = True
    trace: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: must be at least 1, is {self.threads}")


class Engine:
    """A bundle's graph in an onnxruntime session.

    Attributes:
        cache: The KV cache; truncate it to roll back.
        forward_passes: Calls of the session so far.
        logits_tail: How many of a `forward`'s last positions get logits.
        context_length: The most tokens the cache may hold.
    """

    def __init__(
        self, path: Path, graph: GraphInfo, options: EngineOptions, cache: KvCache
    ) -> None:
        """Load the graph.

        Args:
            path: The graph's file.
            graph: What the manifest says of it.
            options: How to use the device.
            cache: To append to. What it holds comes before the first tokens; another thread may
                still be filling it while the graph loads.

        Raises:
            BundleError: onnxruntime is too old for the file or refuses it, or the graph's shapes
                are not those that the manifest says.
        """
        model = cache.model
        _check_version(graph)
        self._session = _open_session(path, options)
        _check_shapes(self._session, model, graph)
        self._binding = self._session.io_binding()
        self._logits_size = len(graph.head.token_ids) if graph.head else model.vocab_size
        self._takes_positions = graph.position_ids
        self.context_length = model.context_length
        self._logits_rows = graph.logits_tail
        self.logits_tail = min(graph.logits_tail, _CHUNK_TOKENS)
        self.forward_passes = 0
        self.cache = cache
        kind = _SharedCache if graph.shared_cache else _SeparateCache
        self._cache_binding: _CacheBinding = kind(self._binding, self.cache)

    def forward(self, ids: Sequence[int]) -> Float32:
        """Append tokens to the cache and return the logits of the last of them.

        Args:
            ids: At least one token id.

        Returns:
            (min(len(ids), logits_tail), vocab_size), float32; with a reduced output head only that
            head's columns.

        Raises:
            ValueError: No ids, or more than the context length holds.
            EngineError: onnxruntime failed.
        """
        total = self.cache.length + len(ids)
        if not ids or total > self.context_length:
            raise ValueError(
                f"ids: with {self.cache.length} in the cache must number 1 to "
                f"{self.context_length - self.cache.length}, are {len(ids)}"
            )
        self._cache_binding.reserve(total)
        *chunks, last = _chunks(np.asarray(ids, np.int64))
        for chunk in chunks:
            self._run(chunk)
        return self._run(last)

    def end_trace(self) -> Path:
        """Write the trace that was asked for with `EngineOptions.trace`, and return where it is."""
        return Path(self._session.end_profiling())

    def _run(self, ids: npt.NDArray[np.int64]) -> Float32:
        past, total = self.cache.length, self.cache.length + len(ids)
        mask, positions = np.ones((1, total), np.int64), np.arange(past, total)
        logits = np.empty((1, min(len(ids), self._logits_rows), self._logits_size), np.float32)
        binding = self._binding
        binding.bind_input("input_ids", "cpu", 0, np.int64, (1, len(ids)), ids.ctypes.data)
        binding.bind_input("attention_mask", "cpu", 0, np.int64, mask.shape, mask.ctypes.data)
        if self._takes_positions:
            shape, address = (1, len(ids)), positions.ctypes.data
            binding.bind_input("position_ids", "cpu", 0, np.int64, shape, address)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._cache_binding.bind(total)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"onnxruntime failed on {len(ids)} tokens: {error}") from error
        self.forward_passes += 1
        self._cache_binding.appended(total)
        last_logits: Float32 = logits[0, -self.logits_tail :]
        return last_logits


class _CacheBinding(Protocol):
    """Where an engine's passes read and write keys and values: in one buffer, or in two.

    Our own graphs append to the cache in place. Others, such as optimum's, read a past of exactly
    the tokens held and write a separate present, which is the next pass's past.
    """

    def reserve(self, total: int) -> None:
        """Make room for `total` tokens, to be appended in one or more passes."""

    def bind(self, total: int) -> None:
        """Bind past and present for a pass after which the cache holds `total` tokens."""

    def appended(self, total: int) -> None:
        """Take over what the pass wrote."""


class _SharedCache:
    """One buffer serves as past and present: attention appends in place."""

    def __init__(self, binding: ort.IOBinding, cache: KvCache) -> None:
        self._binding = binding
        self._cache = cache
        self._bound_capacity = 0

    def reserve(self, total: int) -> None:
        """Make room for `total` tokens."""
        if total > self._cache.capacity:
            self._cache.reserve(total)

    def bind(self, total: int) -> None:
        """Bind the buffers again where they moved."""
        if self._bound_capacity == self._cache.capacity:
            return
        for part, buffers in (("key", self._cache.keys), ("value", self._cache.values)):
            for layer, buffer in enumerate(buffers):
                self._binding.bind_input(f"past_key_values.{layer}.{part}", *_memory(buffer))
                self._binding.bind_output(f"present.{layer}.{part}", *_memory(buffer))
        self._bound_capacity = self._cache.capacity

    def appended(self, total: int) -> None:
        """Count the tokens: they are already in place."""
        self._cache.length = total


class _SeparateCache:
    """Past and present are separate buffers, of exactly the tokens before and after a pass."""

    def __init__(self, binding: ort.IOBinding, cache: KvCache) -> None:
        self._binding = binding
        self._cache = cache
        self._present: dict[str, list[Float32]] = {}

    def reserve(self, total: int) -> None:
        """Do nothing: every pass makes its own room."""

    def bind(self, total: int) -> None:
        """Bind what is held, cut to its length, and new buffers for the pass to write to."""
        self._cache.trim()
        for part, buffers in (("key", self._cache.keys), ("value", self._cache.values)):
            self._present[part] = []
            for layer, past in enumerate(buffers):
                present = np.empty((*past.shape[:2], total, past.shape[3]), np.float32)
                self._binding.bind_input(f"past_key_values.{layer}.{part}", *_memory(past))
                self._binding.bind_output(f"present.{layer}.{part}", *_memory(present))
                self._present[part].append(present)

    def appended(self, total: int) -> None:
        """Hold the present in place of the past."""
        self._cache.replace(self._present["key"], self._present["value"])


def _memory(buffer: Float32) -> tuple[str, int, type[np.float32], tuple[int, ...], int]:
    return "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data


def save_prepacked(path: Path, target: Path, options: EngineOptions) -> None:
    """Write a graph's weights once more, packed for this processor's kernels.

    The weights go into one file next to the new graph and named after it, both raw and packed: on
    opening, onnxruntime packs the raw ones again and uses the packed ones in the file only if they
    are the same.

    Args:
        path: The graph of a bundle.
        target: The graph to write.
        options: How the graph is going to be run.

    Raises:
        BundleError: onnxruntime refuses the file.
        EngineError: It cannot be written, e.g. because the disk is full.
    """
    session_options = _session_options(options)
    session_options.optimized_model_filepath = str(target)
    entries = {
        "session.save_external_prepacked_constant_initializers": "1",
        "session.optimized_model_external_initializers_file_name": f"{target.name}.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(_EXTERNAL_BYTES),
    }
    for name, value in entries.items():
        session_options.add_session_config_entry(name, value)
    _start_session(path, session_options)
    if not target.exists():
        raise EngineError(f"{target}: onnxruntime {ort.__version__} did not write it")


def _open_session(path: Path, options: EngineOptions) -> ort.InferenceSession:
    return _start_session(path, _session_options(options))


def _check_version(graph: GraphInfo) -> None:
    if _version(ONNXRUNTIME_VERSION) < _version(graph.onnxruntime):
        raise BundleError(
            f"graph.onnxruntime: must be at least {graph.onnxruntime} for this bundle, is "
            f"{ONNXRUNTIME_VERSION}; upgrade onnxruntime"
        )


def _version(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, so that `1.27` equals `1.27.0`."""
    numbers = [int(digits) for digits in re.findall(r"[0-9]+", text)[:3]]
    return tuple([*numbers, 0, 0][:3])


def _check_shapes(session: ort.InferenceSession, model: ModelInfo, graph: GraphInfo) -> None:
    """Check the shapes that buffers are made with against the graph's own.

    A dimension that the graph leaves open or gives a name may be anything.
    """
    shapes = {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}
    layers = sum(_PAST_KEY.fullmatch(name) is not None for name in shapes)
    key = dict(enumerate(shapes.get("past_key_values.0.key", ())))
    facts: list[tuple[str, object, int]] = [
        ("model.num_hidden_layers", layers, model.num_hidden_layers),
        ("model.num_key_value_heads", key.get(1), model.num_key_value_heads),
        ("model.head_dim", key.get(3), model.head_dim),
        ("graph.position_ids", "position_ids" in shapes, graph.position_ids),
    ]
    columns = dict(enumerate(shapes.get("logits", ()))).get(2)
    if graph.head:
        facts.append(("graph.head.token_ids", columns, len(graph.head.token_ids)))
    else:
        facts.append(("model.vocab_size", columns, model.vocab_size))
    for name, found, said in facts:
        if isinstance(found, int) and found != said:
            raise BundleError(f"{name}: must be {found} as the graph has it, is {said}")


def _session_options(options: EngineOptions) -> ort.SessionOptions:
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.threads or big_cores()
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    session_options.enable_cpu_mem_arena = options.arena
    # onnxruntime would keep a memory plan for every length of prompt: 10 MB each at full size, for
    # no gain in time.
    session_options.enable_mem_pattern = False
    # Tensors that share memory hold on to it until the last of them is read, so the arena grows,
    # most of all for long prompts, for no gain in time.
    session_options.enable_mem_reuse = False
    if options.trace:
        session_options.enable_profiling = True
        session_options.profile_file_prefix = str(options.trace)
    session_options.add_session_config_entry(
        "session.intra_op.allow_spinning", str(int(options.spinning))
    )
    session_options.add_session_config_entry(
        "mlas.disable_kleidiai", str(int(not options.kleidiai))
    )
    return session_options


def _start_session(path: Path, session_options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"{path}: onnxruntime {ort.__version__} refuses it: {error}") from error


def _chunks(ids: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Cut long prompts into chunks, the last one long enough for any tail."""
    while len(ids) > 2 * _CHUNK_TOKENS:
        yield ids[:_CHUNK_TOKENS]
        ids = ids[_CHUNK_TOKENS:]
    yield ids
