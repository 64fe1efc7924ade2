"""How a graph's past and present are bound to the KV cache: to one buffer, or to two.

Our own graphs append to the cache where it lies. Others, such as optimum's, read a past of exactly
the tokens held and write a present of their own, which is the next pass's past.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from foggen_runtime.model.kv_cache import Float32, KvCache


class IoBinding(Protocol):
    """What is asked of onnxruntime's binding of names to memory."""

    def bind_input(
        self, name: str, device: str, number: int, dtype: object, shape: Sequence[int], address: int
    ) -> None:
        """Read an input from memory."""

    def bind_output(
        self, name: str, device: str, number: int, dtype: object, shape: Sequence[int], address: int
    ) -> None:
        """Write an output to memory."""


class CacheBinding(Protocol):
    """Where the passes of an engine find and leave keys and values."""

    def reserve(self, total: int) -> None:
        """Make room for `total` tokens, to be appended in one or more passes."""

    def bind(self, total: int) -> None:
        """Bind past and present for a pass after which the cache holds `total` tokens."""

    def appended(self, total: int) -> None:
        """Take over what that pass wrote."""


class SharedCache:
    """Each buffer is past and present at once: attention appends in place."""

    def __init__(self, binding: IoBinding, cache: KvCache) -> None:
        self._binding = binding
        self._cache = cache
        self._bound_capacity = 0

    def reserve(self, total: int) -> None:
        """Make room for `total` tokens."""
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
        """Count the tokens: they are where they belong."""
        self._cache.length = total


class SeparateCache:
    """Past and present are buffers of their own, of exactly the tokens before and after a pass."""

    def __init__(self, binding: IoBinding, cache: KvCache) -> None:
        self._binding = binding
        self._cache = cache
        self._present: dict[str, list[Float32]] = {}

    def reserve(self, total: int) -> None:
        """Do nothing: every pass makes its own room."""

    def bind(self, total: int) -> None:
        """Bind what is held, cut to its length, and new buffers for the pass to write."""
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
