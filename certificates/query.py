"""The query record: whether a neighbourhood of one input keeps its label, as a property."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from absolver.certificates import network
from absolver.certificates.container import fields, rational
from absolver.certificates.network import Broken, Clause, Constraint, Property, Tensor


def read_query(data: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Property:
    """The unsafe set of a query record, as the format's section 7 defines it.

    Guarantee: an input within epsilon of the centre that the clip allows is unsafe exactly where
    another output is at least that of the label.
    """
    try:
        return _read(dict(json.loads(data.decode())), inputs, outputs)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise Broken(f"this is no query record: {error!r}") from None


def _read(query: dict[str, Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Property:
    fields(query, ("query", "array", "norm", "epsilon", "label", "clip", "outputs"))
    label, norm, clip = query["label"], query["norm"], query["clip"]
    count = sum(math.prod(tensor.shape) for tensor in outputs)
    center, epsilon = _center(query["array"], inputs), rational(query["epsilon"])
    if type(label) is not int or not 0 <= label < count == query["outputs"] or count < 2:
        raise Broken(f"label {label} of {query['outputs']} outputs, the network has {count}")
    if query["query"] != 1 or norm not in ("inf", "2", "1") or epsilon < 0:
        raise network.Unsupported(f"query {query['query']}, norm {norm} with epsilon {epsilon}")
    lower, upper = [x - epsilon for x in center], [x + epsilon for x in center]
    if clip is not None:
        low, high = map(rational, clip if isinstance(clip, list) else ())
        lower, upper = [max(x, low) for x in lower], [min(x, high) for x in upper]
    clauses, box = [], (tuple(lower), tuple(upper))
    for other in (*range(label), *range(label + 1, count)):
        coefficients = {len(center) + label: Fraction(1), len(center) + other: Fraction(-1)}
        constraint = Constraint(tuple(sorted(coefficients.items())), Fraction(0), strict=False)
        clauses.append(Clause(*box, (), (constraint,)))
    ball = None if norm == "inf" else network.Ball(center, epsilon, int(norm))
    words = {"query": f"label {label}, kept within {epsilon} in norm {norm}"}
    return Property(tuple(clauses), ball, words=words)


def _center(array: Mapping[str, Any], inputs: Sequence[Tensor]) -> tuple[Fraction, ...]:
    """The centre, whose shape is that of the only input up to axes of length 1."""
    fields(array, ("dtype", "shape", "data"))
    values = np.frombuffer(base64.b64decode(array["data"], validate=True), "<f4")
    axes = [[n for n in shape if n != 1] for shape in (array["shape"], *(t.shape for t in inputs))]
    if array["dtype"] != "float32" or axes != [axes[0]] * 2:
        raise Broken(f"the centre is {array['dtype']} {array['shape']}, the inputs are {inputs}")
    if len(values) != math.prod(inputs[0].shape) or not np.isfinite(values).all():
        raise Broken("the centre has not as many finite numbers as its shape says")
    return tuple(Fraction(float(x)) for x in values)
