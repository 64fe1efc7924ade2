"""The only module that talks to onnxruntime: token ids in, logits out, a KV cache in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from foggen_runtime.cores import big_cores
from foggen_runtime.errors import BundleError, ConfigError, EngineError
from foggen_runtime.kv_cache import Float32, KvCache
from foggen_runtime.manifest import GraphInfo, ModelInfo

# Long prompts go through in chunks, or attention's scratch memory would grow with their square.
# Even chunk lengths keep int4 products bit-identical to those of one long chunk.
_CHUNK_TOKENS = 512


@dataclass(frozen=True)
class EngineOptions:
    """How onnxruntime uses the device.

    Attributes:
        threads: Worker threads; None takes the physical big cores.
        spinning: Whether idle workers spin, trading battery for latency.
        arena: Whether onnxruntime keeps freed memory for the next pass.
        kleidiai: Whether ARM's KleidiAI kernels may be used; without them ARM computes what x86
            does.
    """

    threads: int | None = None
    spinning: bool = True
    arena: bool = True
    kleidiai: bool = True

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: must be at least 1, is {self.threads}")


class Engine:
    """A bundle's graph in an onnxruntime session.

    Attributes:
        cache: The KV cache; truncate it to roll back.
        forward_passes: Calls of the session so far.
        logits_tail: How many last positions of a `forward` get logits.
        context_length: The most tokens the cache may hold.
    """

    def __init__(
        self, path: Path, model: ModelInfo, graph: GraphInfo, options: EngineOptions
    ) -> None:
        """Load the graph.

        Raises:
            BundleError: onnxruntime refuses the file.
        """
        self._session = _open_session(path, options)
        self._binding = self._session.io_binding()
        self._vocab_size = model.vocab_size
        self.context_length = model.context_length
        self.logits_tail = graph.logits_tail
        self.forward_passes = 0
        self.cache = KvCache(model)
        self._bound_capacity = 0
        self._mask = np.ones((1, 0), np.int64)

    def forward(self, ids: Sequence[int]) -> Float32:
        """Append tokens to the cache and return the logits of the last of them.

        Args:
            ids: At least one token id.

        Returns:
            (min(len(ids), logits_tail), vocab_size), float32.

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
        self.cache.reserve(total)
        if self._bound_capacity != self.cache.capacity:
            self._bind_cache()
        *chunks, last = _chunks(np.asarray(ids, np.int64))
        for chunk in chunks:
            self._run(chunk)
        return self._run(last)

    def _run(self, ids: npt.NDArray[np.int64]) -> Float32:
        total = self.cache.length + len(ids)
        logits = np.empty((1, min(len(ids), self.logits_tail), self._vocab_size), np.float32)
        binding = self._binding
        binding.bind_input("input_ids", "cpu", 0, np.int64, (1, len(ids)), ids.ctypes.data)
        binding.bind_input("attention_mask", "cpu", 0, np.int64, (1, total), self._mask.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"onnxruntime failed on {len(ids)} tokens: {error}") from error
        self.forward_passes += 1
        self.cache.length = total
        last_logits: Float32 = logits[0]
        return last_logits

    def _bind_cache(self) -> None:
        """Bind each buffer as past and as present: attention appends in place."""
        parts = (("key", self.cache.keys), ("value", self.cache.values))
        for part, buffers in parts:
            for layer, buffer in enumerate(buffers):
                bound = ("cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
                self._binding.bind_input(f"past_key_values.{layer}.{part}", *bound)
                self._binding.bind_output(f"present.{layer}.{part}", *bound)
        self._bound_capacity = self.cache.capacity
        self._mask = np.ones((1, self.cache.capacity), np.int64)


def _open_session(path: Path, options: EngineOptions) -> ort.InferenceSession:
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.threads or big_cores()
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    session_options.enable_cpu_mem_arena = options.arena
    session_options.add_session_config_entry(
        "session.intra_op.allow_spinning", str(int(options.spinning))
    )
    session_options.add_session_config_entry(
        "mlas.disable_kleidiai", str(int(not options.kleidiai))
    )
    try:
        return ort.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"{path}: onnxruntime {ort.__version__} refuses it: {error}") from error


def _chunks(ids: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Cut long prompts so that the last chunk is long enough for any tail."""
    while len(ids) > 2 * _CHUNK_TOKENS:
        yield ids[:_CHUNK_TOKENS]
        ids = ids[_CHUNK_TOKENS:]
    yield ids
