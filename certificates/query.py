"""The query record: whether a neighbourhood of one input keeps its label, as a property."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from absolver.certificates.format import fields, rational
from absolver.certificates.network import (
    Ball,
    Broken,
    Clause,
    Constraint,
    Property,
    Tensor,
    Unsupported,
)


def read_query(data: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Property:
    """The unsafe set of a query record, as the format's section 7 defines it.

    Guarantee: an input within epsilon of the centre that the clip allows is unsafe exactly where
    another output is at least that of the label.
    """
    try:
        return _property(dict(json.loads(data.decode())), inputs, outputs)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise Broken(f"this is no query record: {error!r}") from None


def _property(
    query: Mapping[str, Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Property:
    fields(query, ("query", "array", "norm", "epsilon", "label", "clip", "outputs"))
    label, count = query["label"], sum(math.prod(tensor.shape) for tensor in outputs)
    if query["query"] != 1 or query["outputs"] != count or label not in range(count) or count < 2:
        raise Broken(f"label {label} of {query['outputs']} outputs, the network has {count}")
    center, epsilon, norm = (
        _center(query["array"], inputs),
        rational(query["epsilon"]),
        query["norm"],
    )
    if norm not in ("inf", "2", "1") or epsilon < 0:
        raise Unsupported(f"the norm {norm} with epsilon {epsilon}")
    lower, upper = [x - epsilon for x in center], [x + epsilon for x in center]
    if query["clip"] is not None:
        low, high = map(rational, query["clip"])
        lower, upper = [max(x, low) for x in lower], [min(x, high) for x in upper]
    box, first = (tuple(lower), tuple(upper)), len(center)
    one, zero = Fraction(1), Fraction(0)
    clauses = []
    for other in range(count):
        if other != label:
            terms = sorted([(first + label, one), (first + other, -one)])
            clauses.append(Clause(*box, (), (Constraint(tuple(terms), zero, strict=False),)))
    ball = None if norm == "inf" else Ball(center, epsilon, int(norm))
    words = {"query": f"label {label}, kept within {epsilon} in norm {norm}"}
    return Property(tuple(clauses), ball, words=words)


def _center(array: Mapping[str, Any], inputs: Sequence[Tensor]) -> tuple[Fraction, ...]:
    """The centre, whose shape is that of the only input up to axes of length 1."""
    fields(array, ("dtype", "shape", "data"))
    values = np.frombuffer(base64.b64decode(array["data"], validate=True), "<f4")
    shapes = [
        [n for n in shape if n != 1] for shape in (array["shape"], *(t.shape for t in inputs))
    ]
    if array["dtype"] != "float32" or shapes != [shapes[0]] * 2 or not np.isfinite(values).all():
        raise Broken(f"the centre is {array['dtype']} {array['shape']}, the inputs are {inputs}")
    if len(values) != math.prod(inputs[0].shape):
        raise Broken(f"the centre has {len(values)} numbers for the shape {array['shape']}")
    return tuple(Fraction(float(x)) for x in values)
