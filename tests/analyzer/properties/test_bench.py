"""Claims about the real properties of the benchmark set."""

import csv
import gzip
from pathlib import Path

import onnx
import pytest

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.numerals import parse_decimal
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.vnnlib import read_vnnlib


def tensors(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    data = path.read_bytes()
    graph = onnx.load_from_string(gzip.decompress(data) if path.suffix == ".gz" else data).graph
    weights = {initializer.name for initializer in graph.initializer}

    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        shape = tuple(axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim)
        return TensorSpec(value.name, shape)

    inputs = [spec(value) for value in graph.input if value.name not in weights]
    return inputs, [spec(value) for value in graph.output]


def read(bench: Path, name: str) -> Property:
    with (bench / "instances.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["vnnlib"] == name)
    return read_vnnlib(bench / name, *tensors(bench / row["onnx"]))


def test_every_property_is_read_for_its_network(bench_folder: Path) -> None:
    with (bench_folder / "instances.csv").open() as file:
        rows = list(csv.DictReader(file))
    # One property of each family; benchmarks/ runs all of them.
    families = {row["family"]: row for row in rows}
    for row in families.values():
        if row["onnx"].endswith(".gz") and (bench_folder / row["onnx"]).stat().st_size > 3e6:
            continue
        prop = read_vnnlib(bench_folder / row["vnnlib"], *tensors(bench_folder / row["onnx"]))
        assert prop.clauses, row["vnnlib"]
        for box in prop.boxes:
            assert None not in (*box.lower, *box.upper)


def test_boxes_inside_a_disjunction_are_shared(bench_folder: Path) -> None:
    prop = read(bench_folder, "nn4sys/vnnlib/cardinality_0_700_128__y2022.vnnlib.gz")
    assert (len(prop.boxes), len(prop.clauses)) == (700, 1400)


def test_two_boxes_times_four_outputs_are_eight_clauses(bench_folder: Path) -> None:
    prop = read(bench_folder, "acasxu/vnnlib/prop_6.vnnlib")
    assert (len(prop.boxes), len(prop.clauses)) == (2, 8)


@pytest.mark.regression
def test_point_boxes_of_pensieve_keep_their_decimals(bench_folder: Path) -> None:
    prop = read(bench_folder, "nn4sys/vnnlib/pensieve_simple_13__y2024.vnnlib")
    assert (
        prop.boxes[0].lower[43] == prop.boxes[0].upper[43] == parse_decimal("0.22916666666666666")
    )
    assert len(prop.clauses[0].on_outputs) == 5
