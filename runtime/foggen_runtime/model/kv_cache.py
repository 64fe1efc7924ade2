"""The KV cache: one buffer for each layer's keys and one for its values, with room to append."""

import numpy as np

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import ModelInfo

# Most prompts fit without moving the buffers; the system assigns memory only as tokens are written.
_CAPACITY_STEP = 512


class KvCache:
    """Keys and values of `length` tokens in buffers of `capacity` tokens.

    Attributes:
        model: Says the sizes.
        length: Tokens whose keys and values are valid.
        capacity: Tokens the buffers hold.
        keys: One array per layer, (1, num_key_value_heads, capacity, head_dim), float32.
        values: The same for the values.
    """

    def __init__(self, model: ModelInfo) -> None:
        self.model = model
        self.length = 0
        self.capacity = 0
        shape = (1, model.num_key_value_heads, 0, model.head_dim)
        self.keys: list[Float32] = [np.zeros(shape, np.float32)] * model.num_hidden_layers
        self.values: list[Float32] = list(self.keys)
        self._resize(_CAPACITY_STEP)

    @property
    def nbytes(self) -> int:
        """Bytes held by the buffers."""
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens; the buffers move if `capacity` changes."""
        if length > self.capacity:
            steps = -(-length // _CAPACITY_STEP)
            self._resize(steps * _CAPACITY_STEP)

    def trim(self) -> None:
        """Give back the room that is not used."""
        if self.capacity != self.length:
            self._resize(self.length)

    def replace(self, keys: list[Float32], values: list[Float32]) -> None:
        """Hold other buffers, full to their capacity; only the number of tokens may differ."""
        self.keys, self.values = keys, values
        self.length = self.capacity = keys[0].shape[2]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens.

        Raises:
            ValueError: `length` is negative or more than is held.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length: must be within [0, {self.length}], is {length}")
        self.length = length

    def restore(self, snapshot: Float32) -> None:
        """Hold exactly the snapshot: (layers, 2, num_key_value_heads, tokens, head_dim)."""
        tokens = snapshot.shape[3]
        self.reserve(tokens)
        for layer, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            key[0, :, :tokens] = snapshot[layer, 0]
            value[0, :, :tokens] = snapshot[layer, 1]
        self.length = tokens

    def snapshot(self) -> Float32:
        """Return a copy of what is held, in the form that `restore` takes."""
        layers = zip(self.keys, self.values, strict=True)
        return np.stack([[part[0, :, : self.length] for part in layer] for layer in layers])

    def _resize(self, capacity: int) -> None:
        """Move the buffers one by one, so that only one exists twice at a time."""
        for buffers in (self.keys, self.values):
            for layer, old in enumerate(buffers):
                buffers[layer] = self._resized(old, capacity)
        self.capacity = capacity

    def _resized(self, old: Float32, capacity: int) -> Float32:
        model = self.model
        new = np.zeros((1, model.num_key_value_heads, capacity, model.head_dim), np.float32)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new
