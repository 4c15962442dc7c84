"""Claims about neighbourhoods of one input."""

import base64
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import Graph, Input, TensorSpec
from absolver.analyzer.properties.errors import (
    PropertyFileError,
    PropertyMismatchError,
    QueryError,
)
from absolver.analyzer.properties.query import (
    Neighbourhood,
    ball_property,
    load_array,
    pixel_axis,
)
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.sparse import FewPixels

SHAPE = (1, 3, 2, 2)
GRAPH = Graph(
    (
        Input(name="x", shape=SHAPE, origin="input"),
        Input(name="y", shape=(1, 4), origin="output"),
    ),
    (TensorSpec("x", SHAPE),),
    (TensorSpec("y", (1, 4)),),
)
IMAGE = np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(SHAPE)
CLIP = ("0", "1")


def query(norm: str, epsilon: str, clip: tuple[str, str] | None = CLIP) -> Neighbourhood:
    return ball_property(IMAGE, epsilon, norm, 2, clip, 4)


def test_another_label_at_least_as_high_is_unsafe() -> None:
    near = query("inf", "0.1")
    spec = near.specification(GRAPH, "cpu", torch.float32)
    assert list(spec.names[0][:3]) == ["Y_2 <= Y_0", "Y_2 <= Y_1", "Y_2 <= Y_3"]
    assert not spec.verified(torch.zeros(1, 3))
    assert spec.verified(torch.full((1, 3), 1e-9))
    point = IMAGE.ravel().tolist()
    assert near.violated_by(point, [0.0, 1.0, 1.0, 0.0]) == 1
    assert near.violated_by(point, [0.0, 0.0, 1.0, 0.0]) is None


def test_the_box_of_the_maximum_norm_is_exact_and_clipped() -> None:
    box = query("inf", "0.3").enclosing_property().boxes[0]
    exact = [Fraction(x) for x in IMAGE.ravel().tolist()]
    assert box.lower == tuple(max(x - Fraction(3, 10), 0) for x in exact)
    assert box.upper == tuple(min(x + Fraction(3, 10), 1) for x in exact)


@pytest.mark.parametrize(
    ("norm", "clip", "kind"),
    [
        ("inf", None, Box),
        ("2", None, Ball),
        ("1", None, Ball),
        ("2", CLIP, BallInBox),
        ("1", CLIP, BallInBox),
        ("0", CLIP, FewPixels),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_norm_has_its_set(
    norm: str, clip: tuple[str, str] | None, kind: type, dtype: torch.dtype
) -> None:
    near = query(norm, "1" if norm == "0" else "0.3", clip)
    spec = near.specification(GRAPH, "cpu", dtype)
    assert isinstance(spec.region, kind)
    assert spec.region.shape == SHAPE
    assert spec.rows.dtype == spec.region.dtype == dtype


@pytest.mark.soundness
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), norm=st.sampled_from(["inf", "2", "1", "0"]))
def test_points_of_the_exact_set_lie_in_the_rounded_one(seed: int, norm: str) -> None:
    near = query(norm, "2" if norm == "0" else "0.35")
    region = near.specification(GRAPH, "cpu", torch.float32).region
    g = torch.Generator().manual_seed(seed)
    points = region.sample(8, g)[0]
    points = points[[near.contains(x.flatten().tolist()) for x in points]]
    rows = torch.randn(1, 5, *SHAPE, generator=g)
    values = rows[0].flatten(1).double() @ points.flatten(1).double().T
    # 1e-6: the rounding of a float32 sum of twelve terms of size one.
    assert (values >= region.minimum(rows)[0].unsqueeze(1) - 1e-5).all()


@pytest.mark.parametrize("norm", ["2", "1"])
def test_projections_are_counterexamples_that_an_exact_judge_accepts(norm: str) -> None:
    near = query(norm, "0.35")
    region = near.specification(GRAPH, "cpu", torch.float32).region
    points = region.sample(20, torch.Generator().manual_seed(0))[0]
    assert all(near.contains(x.flatten().tolist()) for x in points)


def test_a_pixel_is_all_its_channels() -> None:
    near = query("0", "1")
    changed = IMAGE.copy()
    changed[0, :, 1, 0] = 0
    assert near.contains(changed.ravel().tolist())
    changed[0, 0, 0, 0] = 0
    assert not near.contains(changed.ravel().tolist())
    assert pixel_axis((1, 1, 28, 28)) == 1
    assert pixel_axis((1, 32, 32, 3)) == 3
    assert pixel_axis((1, 784)) is None


def test_the_label_is_what_the_runtime_says() -> None:
    near = ball_property(IMAGE, "0.1", "inf", lambda x: np.array([[0, 3, 1, 2]]), None, 4)
    assert near.label == 1
    with pytest.raises(QueryError, match="there is no label to keep"):
        ball_property(IMAGE, "0.1", "inf", lambda x: np.array([np.nan] * 4), None, 4)


def test_the_record_is_json_and_names_every_number_exactly() -> None:
    record = json.loads(json.dumps(query("2", "0.030").record()))
    assert base64.b64decode(record["array"].pop("data")) == IMAGE.tobytes()
    assert record == {
        "query": 1,
        "array": {"dtype": "float32", "shape": list(SHAPE)},
        "norm": "2",
        "epsilon": "3/100",
        "label": 2,
        "clip": ["0", "1"],
        "outputs": 4,
    }


def test_arrays_in_other_orders_or_types_have_the_record_of_their_values() -> None:
    expected = query("inf", "1").record()
    for other in (IMAGE.astype(">f4"), np.asfortranarray(IMAGE), IMAGE.astype(np.float64)):
        near = ball_property(other, "1", "inf", 2, CLIP, 4)
        assert near.record() == expected


def test_a_number_that_float32_cannot_hold_keeps_its_type() -> None:
    finer = ball_property(IMAGE + np.float64(1e-12), "1", "inf", 2, CLIP, 4)
    array = finer.record()["array"]
    assert isinstance(array, dict) and array["dtype"] == "float64"


def test_the_clauses_of_a_query_are_numbered_in_order() -> None:
    clauses = query("inf", "1").enclosing_property().clauses
    assert [clause.number for clause in clauses] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": "-1"}, "epsilon = -1 is negative"),
        ({"epsilon": "x"}, "epsilon is a decimal number like 0.03, not 'x'"),
        ({"norm": "3"}, "the norm is one of inf, 2, 1, 0, not 3"),
        ({"norm": "0", "epsilon": "1.5"}, "whole number of pixels"),
        ({"norm": "0", "epsilon": "1", "clip": None}, "data range is needed"),
        ({"label": 4}, "the label 4 is none of the outputs 0 to 3"),
        ({"clip": ("1", "0")}, "the data range is empty: 1 > 0"),
        ({"clip": ("0", "0.5")}, "outside of the data range"),
        ({"x": np.array([np.nan])}, "infinite or NaN"),
        ({"x": np.array(["a"])}, "not real numbers"),
    ],
)
def test_queries_that_make_no_sense_are_errors(change: dict, message: str) -> None:
    arguments = {"x": IMAGE, "epsilon": "0.1", "norm": "inf", "label": 2, "clip": CLIP}
    with pytest.raises(QueryError, match=message):
        ball_property(**(arguments | change), outputs=4)


def test_an_array_of_another_shape_is_an_error() -> None:
    near = ball_property(IMAGE.reshape(1, 12), "0.1", "inf", 2, CLIP, 4)
    with pytest.raises(PropertyMismatchError, match="the input array has the shape"):
        near.specification(GRAPH, "cpu", torch.float32)


def test_arrays_are_loaded_from_npy_files_only(tmp_path: Path) -> None:
    good, bad, several = tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "z.npz"
    np.save(good, IMAGE)
    bad.write_text("no array")
    np.savez(several, IMAGE)
    assert np.array_equal(load_array(good), IMAGE)
    with pytest.raises(PropertyFileError, match="No such file"):
        load_array(tmp_path / "missing.npy")
    with pytest.raises(QueryError, match=r"no \.npy file of numbers"):
        load_array(bad)
    with pytest.raises(QueryError, match="holds several arrays"):
        load_array(several)
