"""The files an ONNX model reads, held to the onnx package."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.external_data import external_locations, unlisted_locations
from foggen_runtime.bundle.manifest import MANIFEST_FILE, file_info
from foggen_runtime.errors import BundleError
from tests.conftest import BundleOf

MODEL = "model.onnx"


def locations(path: Path) -> frozenset[str]:
    with path.open("rb") as file:
        return external_locations(file)


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("offset", "0"), ("location", location), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(*tensors: TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], initializer=tensors)


def everywhere() -> tuple[onnx.ModelProto, set[str]]:
    """Return a model with external data in every place that holds a tensor."""
    node = helper.make_node("Some", [], ["y"])
    for attribute in (
        helper.make_attribute("t", external("a", "tensor")),
        helper.make_attribute("ts", [external("a", "tensors"), external("b", "tensors 2")]),
        helper.make_attribute("g", graph(external("a", "subgraph"))),
        helper.make_attribute("gs", [graph(external("a", "subgraphs"))]),
    ):
        node.attribute.append(attribute)
    sparse = onnx.SparseTensorProto(
        values=external("v", "sparse values"), indices=external("i", "sparse indices"), dims=[1]
    )
    node.attribute.append(onnx.AttributeProto(name="s", sparse_tensor=sparse))
    node.attribute.append(onnx.AttributeProto(name="ss", sparse_tensors=[sparse]))
    outer = helper.make_graph([node], "outer", [], [], initializer=[external("w", "weights")])
    outer.sparse_initializer.add().CopyFrom(
        onnx.SparseTensorProto(values=external("v", "sparse initializer"), dims=[1])
    )
    model = helper.make_model(outer)
    inner = helper.make_node("Constant", [], ["z"], value=external("c", "function"))
    function = helper.make_function("d", "f", [], ["z"], [inner], [helper.make_opsetid("", 21)])
    function.attribute_proto.append(
        helper.make_attribute("default", external("d", "function's default"))
    )
    model.functions.append(function)
    training = model.training_info.add()
    training.initialization.CopyFrom(graph(external("a", "initialization")))
    training.algorithm.CopyFrom(graph(external("a", "algorithm")))
    return model, {
        *("tensor", "tensors", "tensors 2", "subgraph", "subgraphs", "sparse values"),
        *("sparse indices", "weights", "sparse initializer", "function", "function's default"),
        *("initialization", "algorithm"),
    }


def test_every_place_that_holds_a_tensor_is_seen(tmp_path: Path) -> None:
    model, wanted = everywhere()
    (tmp_path / MODEL).write_bytes(model.SerializeToString())
    assert locations(tmp_path / MODEL) == wanted


def leading_to_tensors() -> set[str]:
    """Return the names of ONNX's messages that hold tensors, themselves or further inside."""
    inside: dict[str, set[str]] = {}

    def walk(descriptor: Any) -> None:
        if descriptor.name not in inside:
            messages = [field.message_type for field in descriptor.fields if field.message_type]
            inside[descriptor.name] = {message.name for message in messages}
            for message in messages:
                walk(message)

    walk(onnx.ModelProto.DESCRIPTOR)
    found = {"TensorProto"}
    while more := {name for name, held in inside.items() if held & found} - found:
        found |= more
    return found


def test_no_other_message_leads_to_a_tensor() -> None:
    """When ONNX gets a new one, this says so, and the reader has to learn it."""
    assert leading_to_tensors() == {
        *("ModelProto", "GraphProto", "NodeProto", "AttributeProto", "TensorProto"),
        *("SparseTensorProto", "FunctionProto", "TrainingInfoProto"),
    }


@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
def test_bundles_read_their_data_file(tiny_bundle: BundleOf, quant: str) -> None:
    assert locations(tiny_bundle(quant) / MODEL) == {"model.onnx.data"}


def pieces() -> Iterator[bytes]:
    """Yield damaged models: cut, and with bytes replaced."""
    whole = everywhere()[0].SerializeToString()
    yield from (whole[:end] for end in range(0, len(whole), 7))
    generator = random.Random(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        yield bytes(damaged)


def test_what_onnx_reads_of_a_damaged_model_is_seen_or_refused(tmp_path: Path) -> None:
    path = tmp_path / MODEL
    refused = 0
    for content in pieces():
        path.write_bytes(content)
        try:
            seen = locations(path)
        except ValueError:
            refused += 1
            continue
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception:  # protobuf's own
            continue
        assert set(tensor_locations(model)) <= seen
    assert refused > 100


def tensor_locations(message: Any) -> Iterator[str]:
    """Yield the locations in a parsed message, by reflection."""
    for field, value in message.ListFields():
        if not field.message_type:
            continue
        for inner in value if field.is_repeated else [value]:
            if isinstance(inner, onnx.TensorProto):
                entries = {entry.key: entry.value for entry in inner.external_data}
                if "location" in entries:
                    yield entries["location"]
            yield from tensor_locations(inner)


@pytest.mark.parametrize(
    "content", [b"", b"\x0b", b"\xff" * 20, b"\x3a\x7f", b"\x00\x00", b"\x3d\0\0\0\0"]
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MODEL).write_bytes(content)
    with pytest.raises(ValueError, match=r"must|mmap|not used"):
        locations(tmp_path / MODEL)


def test_graphs_are_not_followed_without_end(tmp_path: Path) -> None:
    inner = graph(external("a", "deep"))
    for _ in range(25):
        node = helper.make_node("If", [], ["y"])
        node.attribute.append(helper.make_attribute("body", inner))
        inner = helper.make_graph([node], "outer", [], [])
    (tmp_path / MODEL).write_bytes(helper.make_model(inner).SerializeToString())
    with pytest.raises(ValueError, match="nested"):
        locations(tmp_path / MODEL)


@pytest.mark.parametrize(
    ("location", "fine"),
    [
        *(("weights.bin", True), ("other.bin", False), ("/etc/hostname", False), ("", False)),
        *(("../weights.bin", False), ("./weights.bin", False), ("sub//w.bin", False)),
        *(("sub/w.bin", True), ("*/_ORT_MEM_ADDR_/*", False)),
    ],
)
@pytest.mark.parametrize("directory", ["", "onnx/"])
def test_locations_are_names_in_the_list(
    tmp_path: Path, location: str, fine: bool, directory: str
) -> None:
    model = helper.make_model(graph(external("w", location)))
    (tmp_path / MODEL).write_bytes(model.SerializeToString())
    listed = {f"{directory}weights.bin", f"{directory}sub/w.bin", "other"}
    with (tmp_path / MODEL).open("rb") as file:
        found = unlisted_locations(file, f"{directory}{MODEL}", listed)
    assert found == (() if fine else (location,))


def redirect(bundle: Path, location: str) -> None:
    """Have the model read its weights from somewhere else, and list its hash."""
    model = onnx.load_model(bundle / MODEL, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save_model(model, bundle / MODEL)
    info = file_info(bundle / MODEL)
    manifest = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["files"][MODEL] = {"bytes": info.bytes, "sha256": info.sha256}
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("location", ["unlisted.data", "../outside.data", "absolute", "link.data"])
def test_weights_that_are_not_listed_are_not_read(
    tiny_bundle: BundleOf, tmp_path: Path, location: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))
    weights = (bundle / "model.onnx.data").read_bytes()
    (tmp_path / "outside.data").write_bytes(weights)
    (bundle / "unlisted.data").write_bytes(weights)
    (bundle / "link.data").symlink_to(tmp_path / "outside.data")
    if location == "absolute":
        location = str(tmp_path / "outside.data")
    redirect(bundle, location)
    with pytest.raises(BundleError, match=r"model\.onnx: must read only files that are listed"):
        Bundle.open(bundle)
