"""The records of a proof, read strictly into what the kernel takes: nothing in them is believed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.boxes import Lines, Slope
from absolver.certificates.container import fields, rational
from absolver.certificates.groups import GroupRequest, RowRequest, directions
from absolver.certificates.kernel import Proposals
from absolver.certificates.network import Broken, Clause, Constraint, Floats, Ints, Network
from absolver.certificates.rules.piecewise_linear import CONTINUOUS
from absolver.certificates.terms import Form, Half


class Block(NamedTuple):
    """Rows of a leaf: the clause that each one refutes, -1 for all, and whether 0 is enough."""

    clauses: Sequence[int]
    forms: Sequence[Form]
    strict: Sequence[bool]
    lines: Mapping[int, Lines]


class Tree(NamedTuple):
    """A tree in one record: arrays with an entry for each split, or for each node.

    The k-th split is of an element of a tensor at a threshold, and has the nodes 2 k + 1 and 2 k +
    2 below; `number` has the k of a node that is split, -1 for a leaf.
    """

    tensor: Ints
    element: Ints
    threshold: Floats
    number: Ints
    bounded: NDArray[np.bool_]
    undecided: bool
    clip: bool
    lines: Mapping[int, Lines]
    multipliers: NDArray[Any] | None
    combination: NDArray[Any] | None


class ProposalReader:
    """Reads what records say about one network; raises `Broken` where that makes no sense."""

    def __init__(self, network: Network) -> None:
        """Find the operators by their names."""
        self._network, self._operators = network, network.operators

    def proposals(self, facts: object) -> Proposals:
        """Return the facts of a record."""
        facts = mapping(facts)
        fields(facts, (), ("lines", "rows", "groups", "norm"))
        rows: defaultdict[int, list[RowRequest]] = defaultdict(list)
        for entry in listed(facts.get("rows", [])):
            fields(mapping(entry), ("operand", "lower", "upper"), ("lines",))
            node = self._bounded(entry["operand"])
            rows[node].append(self._rows(entry, ("lower", "upper"), self._network.sizes[node]))
        groups = dict(map(self._groups, listed(facts.get("groups", []))))
        if len(groups) < len(facts.get("groups", [])):
            raise Broken("an operator has groups twice")
        balls = "norm" in facts and bool(whole(facts["norm"], 2, 3))
        return Proposals(self._lines(facts.get("lines", [])), rows, groups=groups, balls=balls)

    def halves(self, record: Mapping[str, Any]) -> tuple[Half, Half]:
        """Return the two sides of a split, as their trees follow it."""
        fields(record, ("record", "of", "element", "threshold"), ("facts",))
        node = self._tensor(record["of"])
        element = whole(record["element"], 0, self._network.sizes[node])
        threshold = rational(record["threshold"])
        first, second = (Half(node, element, threshold, at_most) for at_most in (True, False))
        return first, second

    def tree(self, record: Mapping[str, Any], clauses: Mapping[int, Clause]) -> Tree:
        """Return a tree for a case of these clauses."""
        fields(record, _TREE, ("facts", "bounded", "lines", "multipliers", "combination"))
        split = numbers(record["split"], "i", (np.size(record["split"]),))
        inner, count = np.flatnonzero(split >= 0), len(split)
        # The k-th split has the children 2 k + 1 and 2 k + 2, so that it comes before them.
        ordinals = np.arange(len(inner))
        if count != 2 * len(inner) + 1 or (inner > 2 * ordinals).any() or (split < -1).any():
            raise Broken(f"{len(inner)} splits make no tree of {count} nodes in level order")
        tensors = [self._tensor(of) for of in listed(record["of"])]
        whole(int(split.max()), -1, len(tensors))
        tensor = np.array([*tensors, 0])[split[inner]]
        element = numbers(record["element"], "i", (len(inner),)).astype(np.int64)
        outside = (element < 0) | (element >= np.array(self._network.sizes)[tensor])
        if outside.any():
            raise Broken(f"{element[outside][0]} is not an element of the tensor that is split")
        number = np.full(count, -1)
        number[inner] = ordinals
        bound = _mask(record.get("bounded", True), count)
        if (~bound & (number < 0)).any():
            raise Broken("a leaf is not bounded")
        rows, clip = record["rows"], record["clip"]
        if not isinstance(rows, str) or rows not in ("undecided", "none") or type(clip) is not bool:
            raise Broken(f"rows are {rows!r:.80}, clip is {clip!r:.80}")
        depths = [0] * count
        for k, i in enumerate(inner.tolist()):
            depths[2 * k + 1] = depths[2 * k + 2] = depths[i] + 1
        multipliers = combination = None
        if "multipliers" in record:
            multipliers = _multipliers(record["multipliers"], (count, max(depths)))
        if "combination" in record:
            (clause,) = clauses.values() if len(clauses) == 1 else (None,)
            if clause is None:
                raise Broken(f"constraints of {len(clauses)} clauses are combined")
            shape = (count, len(clause.on_outputs))
            combination = _multipliers(record["combination"], shape)
        threshold = numbers(record["threshold"], "f", (len(inner),)).astype(np.float64)
        lines = self._lines(record.get("lines", []), count)
        bounding = (bound, rows == "undecided", clip, lines, multipliers, combination)
        return Tree(tensor, element, threshold, number, *bounding)

    def block(
        self,
        record: object,
        clauses: Mapping[int, Clause],
        halves: Sequence[Half],
    ) -> Block:
        """Return a refutation's rows, for a leaf of these clauses behind these splits."""
        entry = mapping(record)
        fields(entry, ("clause", "row", "constraint"), _OPTIONAL)
        names = _integers(entry["clause"])
        if not set(names) <= {-1, *clauses}:
            raise Broken(
                f"a row is for clause {min(set(names) - {-1, *clauses})}, not of this case"
            )
        rows = [_Row() for _ in names]
        for prefix in ("", "input_"):
            for row, number, multiplier in _terms(entry, prefix):
                clause = clauses.get(names[whole(row, 0, len(names))])
                known = () if clause is None else clause.on_inputs if prefix else clause.on_outputs
                constraint = known[whole(number, 0, len(known))]
                rows[row].strict |= constraint.strict and multiplier > 0
                rows[row].take(self._network, constraint, multiplier)
        if "split_multiplier" in entry:
            weights = _multipliers(entry["split_multiplier"], (len(names), len(halves)))
            for i, k in np.argwhere(weights):
                half, weight = halves[k], Fraction(float(weights[i, k]))
                weight = weight if half.at_most else -weight
                rows[i].add((half.node, half.element), weight)
                rows[i].constant -= weight * half.threshold
        forms = [Form(row.constant, row.coefficients) for row in rows]
        lines = self._lines(entry.get("lines", []))
        return Block(names, forms, [row.strict for row in rows], lines)

    def _tensor(self, of: object) -> int:
        """Return the node that a split is of."""
        return 0 if isinstance(of, str) and of == "input" else self._bounded(of)

    def _bounded(self, operand: object) -> int:
        """Return the node of an operand's bounded tensor."""
        if not isinstance(operand, list) or len(operand) != 2:
            raise Broken(f"{operand!r:.80} is not an operand")
        operands = self._network.operands[self._operator(operand[0])]
        return self._network.bounded(operands[whole(operand[1], 0, len(operands))])

    def _operator(self, name: object) -> int:
        if not isinstance(name, str) or name not in self._operators:
            raise Broken(f"{name!r:.80} is not an operator of the network")
        return self._operators[name]

    def _rows(self, entry: Mapping[str, Any], sides: Sequence[str], size: int) -> RowRequest:
        """Return rows for the elements, or forms, that are named on two sides."""
        asked = np.nonzero([[_mask(entry[side], size)] for side in sides])
        return RowRequest(asked, self._lines(entry.get("lines", []), len(asked[0])))

    def _groups(self, entry: object) -> tuple[int, GroupRequest]:
        """Return an operator, and its groups."""
        fields(entry := mapping(entry), _GROUPS, ("lines",))
        v, members = self._operator(entry["operator"]), numbers(entry["members"], "i")
        function, shape = getattr(self._network.nodes[v], "function", None), members.shape
        if function not in CONTINUOUS or len(shape) != 2 or shape[1] not in (2, 3) or not shape[0]:
            raise Broken(f"{entry['operator']}: no groups of {function} of shape {shape}")
        size, k, template = self._network.sizes[v], shape[1], directions(shape[1])
        forms = numbers(entry["forms"], "i", (np.size(entry["forms"]) // k, k))
        signs = numbers(entry["signs"], "i", forms.shape)
        use = numbers(entry["use"], "i", (len(members), len(template))).astype(np.int64)
        valid = np.isin(signs, (-1, 0, 1)) & ((signs == 0) == (forms == -1))
        valid &= (forms >= -1) & (forms < size)
        distinct = np.diff(np.sort(members), prepend=-1, append=size) > 0
        if not (valid.all() and distinct.all() and (np.abs(use) <= len(forms)).all()):
            raise Broken(f"{entry['operator']}: a member, a form or a use does not exist")
        # Members with their signs, in any order.
        group, direction = np.nonzero(use)
        used = use[group, direction]
        sign, form = template[direction] * np.sign(used)[:, None], np.abs(used) - 1
        named = np.where(sign == 0, -4, 4 * members[group] + sign)
        if not np.array_equal(np.sort(named), np.sort(4 * forms[form] + signs[form])):
            raise Broken(f"{entry['operator']}: a form is not the direction that it is used for")
        bounds = self._rows(entry, ("below", "above"), len(forms))
        return v, GroupRequest(members, use, replace(bounds, forms=(forms, signs)))

    def _lines(self, entries: object, count: int = 0) -> dict[int, Lines]:
        """Return lines; arrays may have an axis of so many nodes or rows before the elements."""
        lines = {}
        for entry in listed(entries):
            fields(mapping(entry), ("operator", "lower", "upper"), ("share", "tilt"))
            v = self._operator(entry["operator"])
            operands, size = len(self._network.operands[v]), self._network.sizes[v]
            sides = []
            for side in ("lower", "upper"):
                slopes = listed(entry[side])
                if len(slopes) != operands:
                    raise Broken(
                        f"{len(slopes)} slopes for the {operands} operands of {entry['operator']}"
                    )
                sides.append([_slope(slope, (count, size), operands) for slope in slopes])
            tables = [numbers(entry[x], "f") if x in entry else None for x in ("share", "tilt")]
            for x in tables:
                if x is not None and x.ndim != 2 and (x.ndim != 3 or not 0 < count == len(x)):
                    raise Broken(f"shares or tilts have shape {x.shape}")
            lines[v] = Lines(sides[0], sides[1], *tables)
        return lines


_GROUPS = ("operator", "members", "forms", "signs", "below", "above", "use")
_TREE = ("record", "of", "split", "element", "threshold", "rows", "clip")
_INPUTS = ("input_row", "input_constraint", "input_multiplier")
_OPTIONAL = ("multiplier", *_INPUTS, "split_multiplier", "lines")


def form_of(network: Network, constraint: Constraint) -> Form:
    """Return the form that is at most 0 where the constraint holds."""
    row = _Row()
    row.take(network, constraint, Fraction(1))
    return Form(row.constant, row.coefficients)


class _Row:
    """A row of a refutation while its terms are collected."""

    def __init__(self) -> None:
        self.constant, self.strict = Fraction(0), False
        self.coefficients: dict[tuple[int, int], Fraction] = {}

    def take(self, network: Network, constraint: Constraint, multiplier: Fraction) -> None:
        for variable, coefficient in constraint.terms:
            self.add(network.place(variable), multiplier * coefficient)
        self.constant -= multiplier * constraint.bound

    def add(self, place: tuple[int, int], coefficient: Fraction) -> None:
        self.coefficients[place] = self.coefficients.get(place, Fraction(0)) + coefficient


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object of JSON."""
    if not isinstance(value, dict):
        raise Broken(f"{value!r:.80} is not an object")
    return value


def listed(value: object) -> list[Any]:
    """Return a list of JSON."""
    if not isinstance(value, list):
        raise Broken(f"{value!r:.80} is not a list")
    return value


def whole(value: object, first: int, end: int) -> int:
    """Return an integer of the range."""
    if type(value) is not int or not first <= value < end:
        raise Broken(f"{value!r:.80} is not an integer from {first} to {end - 1}")
    return value


def numbers(value: object, kinds: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Return an array of some kinds of numpy's types, and of a shape where one is given."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
        raise Broken(f"{value!r:.80} is not an array of the right type")
    if shape is not None and value.shape != shape:
        raise Broken(f"an array has shape {value.shape}, not {shape}")
    if not np.isfinite(value).all():
        raise Broken("an array has an entry that is not finite")
    return value


def _integers(value: object) -> list[int]:
    array = numbers(value, "i")
    if array.ndim != 1:
        raise Broken(f"an array of numbers has shape {array.shape}")
    return [int(n) for n in array]


def _multipliers(value: object, shape: tuple[int, ...]) -> Floats:
    array = numbers(value, "f", shape)
    if not (array >= 0).all():
        raise Broken(f"a multiplier is {array.min()}, negative")
    return array.astype(np.float64)


def _terms(entry: Mapping[str, Any], prefix: str) -> list[tuple[int, int, Fraction]]:
    """Return the row, the constraint and the multiplier of each term."""
    row, constraint, multiplier = (prefix + key for key in ("row", "constraint", "multiplier"))
    if prefix and not entry.keys() & {row, constraint, multiplier}:
        return []
    rows, numbers = (_integers(entry.get(key)) for key in (row, constraint))
    weights = np.ones(len(rows))
    if multiplier in entry:
        weights = _multipliers(entry[multiplier], (len(rows),))
    if len(rows) != len(numbers):
        raise Broken(f"{len(rows)} rows are given for {len(numbers)} constraints")
    return list(zip(rows, numbers, map(Fraction, weights.tolist()), strict=True))


def _mask(value: object, size: int) -> NDArray[np.bool_]:
    return np.full(size, value) if isinstance(value, bool) else numbers(value, "b", (size,))


def _slope(value: object, shape: tuple[int, int], operands: int) -> Slope:
    """Return a slope for each element, or for each node of a tree (row) and each element."""
    if isinstance(value, str) and value in ("chord", "adaptive") and operands == 1:
        return value
    if type(value) is int and value == 0:
        return np.zeros(shape[1])
    each = isinstance(value, np.ndarray) and value.ndim == 2 and shape[0] > 0
    slopes = numbers(value, "bf", shape if each else shape[1:])
    return slopes if each else slopes.astype(np.float64)
