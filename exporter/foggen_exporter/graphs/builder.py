"""Building an ONNX graph node by node, with its weights streamed into one external data file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"
TAIL_START = "tail_start"  # the initializer that says how many of the last rows get logits

# Page-aligned weights can be mapped and shared between processes.
ALIGNMENT = 4096
_INLINE_BYTES = 1024

Attributes = Mapping[str, int | float | str | onnx.GraphProto]
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Extent:
    """A range of bytes in the external data file."""

    offset: int
    length: int


class WeightFile:
    """An append-only external data file; a context manager."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file: BinaryIO = path.open("wb")
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, chunks: Iterable[Array]) -> Extent:
        """Write arrays one after the other, the first on a page boundary."""
        padding = -self._end % ALIGNMENT
        self._file.write(bytes(padding))
        offset = self._end + padding
        length = 0
        for chunk in chunks:
            length += self._file.write(np.ascontiguousarray(chunk).data)
        self._end = offset + length
        return Extent(offset, length)


@dataclass
class GraphBuilder:
    """Collects nodes and initializers.

    Attributes:
        weights: Where weights go; None keeps them inside the model (for small graphs).
    """

    weights: WeightFile | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        attributes: Attributes | None = None,
        domain: str = "",
    ) -> str:
        """Add a node named after its first output, and return that output's name."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        node = helper.make_node(op_type, list(inputs), names, name=names[0], domain=domain)
        for key, value in (attributes or {}).items():
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return names[0]

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a small initializer inside the model, once per name."""
        if name not in self.initializers:
            array = np.asarray(value, dtype=dtype)
            self.initializers[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def split(self, x: str, sizes: Mapping[str, int]) -> list[str]:
        """Cut `x` along its last axis into outputs of the sizes given by their names."""
        outputs, lengths = list(sizes), list(sizes.values())
        cuts = self.constant("sizes_" + "_".join(map(str, lengths)), lengths, np.int64)
        self.op("Split", [x, cuts], outputs, {"axis": -1})
        return outputs

    def weight(self, name: str, array: Array) -> str:
        """Add a weight, external unless it is tiny."""
        if self.weights is None or array.nbytes < _INLINE_BYTES:
            return self.constant(name, array, array.dtype)
        return self.streamed_weight(name, array.shape, array.dtype, [array])

    def add_weights(self, arrays: Mapping[str, Array]) -> None:
        """Add weights by their names."""
        for name, array in arrays.items():
            self.weight(name, array)

    def streamed_weight(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        chunks: Iterable[Array],
    ) -> str:
        """Add a weight of which only one chunk at a time is in memory."""
        if self.weights is None:
            return self.constant(name, np.concatenate(list(chunks)).reshape(shape), dtype)
        extent = self.weights.append(chunks)
        self.initializers[name] = external_tensor(
            name, shape, np.dtype(dtype), self.weights.name, extent
        )
        return name

    def alias(self, name: str, of: str, shape: Sequence[int]) -> str:
        """Add an initializer of another shape over the bytes of an existing one."""
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self.initializers[of])
        tensor.name = name
        del tensor.dims[:]
        tensor.dims.extend(shape)
        self.initializers[name] = tensor
        return name

    def row_alias(self, name: str, of: str, rows: range) -> str:
        """Add an initializer over some rows of an existing one in the external data file.

        Args:
            name: Its name.
            of: The existing one's name; rows are its first dimension.
            rows: Which rows, without gaps.
        """
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self.initializers[of])
        tensor.name = name
        place = {entry.key: entry for entry in tensor.external_data}
        row_bytes = int(place["length"].value) // tensor.dims[0]
        place["offset"].value = str(int(place["offset"].value) + rows.start * row_bytes)
        place["length"].value = str(len(rows) * row_bytes)
        tensor.dims[0] = len(rows)
        self.initializers[name] = tensor
        return name

    def body(self) -> "GraphBuilder":
        """Return a builder for a subgraph of this graph, whose initializers go into this graph."""
        return GraphBuilder(self.weights, initializers=self.initializers)

    def subgraph(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.GraphProto:
        """Close a builder that came from `body`."""
        return helper.make_graph(self.nodes, name, inputs, outputs)

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        producer_version: str,
    ) -> onnx.ModelProto:
        """Close the graph."""
        graph = helper.make_graph(
            self.nodes, "foggen", inputs, outputs, initializer=list(self.initializers.values())
        )
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
            producer_name="foggen-export",
            producer_version=producer_version,
        )


def tensor_info(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe a graph input or output."""
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element_type, shape)


def external_tensor(
    name: str, shape: Sequence[int], dtype: np.dtype[np.generic], location: str, extent: Extent
) -> onnx.TensorProto:
    """Describe a tensor whose bytes lie in a file next to the model."""
    tensor = onnx.TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(dtype),
        dims=shape,
        data_location=TensorProto.EXTERNAL,
    )
    entries = {"location": location, "offset": str(extent.offset), "length": str(extent.length)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor
