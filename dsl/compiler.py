"""From a checked domain to batched torch source, and from that to the rules that the engine runs.

One function is written for each rule. A conditional evaluates both of its branches: divisions
guard themselves (`primitives.divide`), so that the branch not taken adds no NaN to a gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from absolver.dsl import primitives
from absolver.dsl.checker import CheckedDomain
from absolver.dsl.chords import has_both_chords, under_chord
from absolver.dsl.domain import Cut, Domain, ParametricRule, Rule
from absolver.dsl.operators.record import Shape
from absolver.dsl.parameters import parameters_of
from absolver.dsl.prover.run import require_lines
from absolver.dsl.quotation import quoted
from absolver.dsl.relaxation import Slopes
from absolver.dsl.syntax import CheckedCut, CheckedRule
from absolver.dsl.writer import write_rule

DEFAULT = "default"
"""The name of the function for operators that the domain has no rule for."""

_ONE_OPERAND = ("if len(box) > 1:", "    return stable_or(f, box, (0,) * len(box))")


def compile_domain(checked: CheckedDomain) -> Domain:
    """Compile a domain and the domains that it is composed of.

    Guarantee: for every operator and box, `slopes` of the result are those that
    `interpreter.slopes` finds neuron by neuron, up to the rounding of torch's elementwise steps.
    """
    if checked.parts > 1:
        whole = compile_domain(replace(checked, parts=1))
        return powerset(whole, checked.parts, name=checked.name)
    if checked.backward:
        return backward(compile_domain(replace(checked, backward=False)), name=checked.name)
    if checked.factors:
        factors = [compile_domain(factor) for factor in checked.factors]
        return product(factors, name=checked.name, doc=checked.doc)
    require_lines(checked)
    source, functions = _source(checked)
    defined = _functions_of(source, checked.name)
    return Domain(
        name=checked.name,
        doc=checked.doc,
        carrier=checked.carrier,
        default=_as_rule(defined[DEFAULT], checked.default),
        rules={
            operator: _as_rule(defined[functions[operator]], rule)
            for operator, rule in checked.rules.items()
        },
        groups={
            operator: replace(grouping, cuts=_cuts(operator, checked.cuts[operator], defined))
            for operator, grouping in checked.groups.items()
        },
        bounds_from=compile_domain(checked.bounds_from) if checked.bounds_from else None,
        chords=_chords(checked),
        source=source,
        norm=checked.norm,
        box=checked.box,
    )


def _chords(checked: CheckedDomain) -> dict[str, Rule | None]:
    """Compile the lower slopes of operators under a chord by themselves, as they are written."""
    found: dict[str, Rule | None] = {}
    for operator, rule in checked.rules.items():
        if has_both_chords(rule):
            found[operator] = None
        elif (alone := under_chord(rule)) is not None:
            source = write_rule(operator, alone)
            defined = _functions_of(source, checked.name, stable_or=primitives.everywhere)
            found[operator] = _as_rule(defined[operator], alone)
    return found


def product(factors: Sequence[Domain], *, name: str = "", doc: str = "") -> Domain:
    """Compose domains to their reduced product; factors of factors become factors."""
    flat = tuple(part for factor in factors for part in (factor.factors or (factor,)))
    return Domain(
        name=name or " & ".join(factor.name for factor in factors),
        doc=doc or "The reduced product of its factors.",
        carrier=flat[0].carrier,
        default=flat[0].default,
        factors=flat,
        source="\n".join(factor.source for factor in flat),
    )


def powerset(domain: Domain, parts: int, *, name: str = "") -> Domain:
    """Have a domain bound each of some parts of the input set (AI2, Gehr et al. 2018)."""
    source = f"# each of {parts} parts of the input set by\n{domain.source}"
    name = name or f"powerset({domain.name}, {parts})"
    return replace(domain, name=name, source=source, parts=parts)


def backward(domain: Domain, *, name: str = "") -> Domain:
    """Have what is assumed of the outputs go back through the operators' inverses, and again."""
    source = f"# forward, backward by each operator's inverse, and again\n{domain.source}"
    return replace(domain, name=name or f"backward({domain.name})", source=source, backward=True)


def _source(checked: CheckedDomain) -> tuple[str, dict[str, str]]:
    """Write a domain's functions; return them with the function of each operator."""
    operators_of: dict[CheckedRule, list[str]] = {}
    for operator, rule in checked.rules.items():
        operators_of.setdefault(rule, []).append(operator)
    header = f"# {checked.name}, {checked.element}"
    if checked.bounds_from:
        header += f", bounds from {checked.bounds_from.name}"
    parts, functions = [f"{header}\n"], {}
    for rule, operators in operators_of.items():
        parts.append(quoted(operators, rule) + write_rule(operators[0], rule))
        functions.update(dict.fromkeys(operators, operators[0]))
    for operator, cuts in checked.cuts.items():
        for number, cut in enumerate(cuts):
            parts.append(_cut_source(operator, number, cut))
    others = quoted(("every other operator",), checked.default)
    parts.append(others + write_rule(DEFAULT, checked.default, _ONE_OPERAND))
    return "\n".join(parts), functions


def _cut_source(operator: str, number: int, cut: CheckedCut) -> str:
    """Write the functions of a cut, one for each neuron of a group that differs from others."""
    sign = ">=" if cut.sign > 0 else "<="
    parts = []
    for rule, places in _alike(cut).items():
        which = "each" if len(places) == len(cut.members) else str(places[0] + 1)
        head = f"# {operator}, cut {number + 1}, {which}: weight (lower) {sign} slope (upper)\n"
        parts.append(head + write_rule(_cut_name(operator, number, places[0]), rule))
    return "\n".join(parts)


def _cuts(
    operator: str, cuts: Sequence[CheckedCut], defined: Mapping[str, Callable[..., Slopes]]
) -> tuple[Cut, ...]:
    found = []
    for number, cut in enumerate(cuts):
        alike = _alike(cut)
        names = [_cut_name(operator, number, alike[rule][0]) for rule in cut.members]
        found.append(Cut(cut.sign, tuple(defined[name] for name in names)))
    return tuple(found)


def _alike(cut: CheckedCut) -> dict[CheckedRule, list[int]]:
    """Return at which places a cut has the same expressions."""
    places: dict[CheckedRule, list[int]] = {}
    for place, rule in enumerate(cut.members):
        places.setdefault(rule, []).append(place)
    return places


def _cut_name(operator: str, number: int, place: int) -> str:
    return f"{operator}_cut_{number + 1}_{place + 1}"


def _as_rule(function: Callable[..., Slopes], rule: CheckedRule) -> Rule:
    return ParametricRule(function) if parameters_of(rule.lower, rule.upper) else function


def _functions_of(
    source: str, name: str, stable_or: Callable[..., Slopes] = primitives.stable_or
) -> Mapping[str, Callable[..., Slopes]]:
    namespace: dict[str, Any] = {
        "torch": torch,
        "nan": torch.nan,
        "inf": torch.inf,
        "S_SHAPED": Shape.S_SHAPED,
        "divide": primitives.divide,
        "slope_between": primitives.slope_between,
        "max_earlier": primitives.max_earlier,
        "max_others": primitives.max_others,
        "stable_or": stable_or,
        "unstacked": primitives.unstacked,
    }
    # `write_rule` alone writes code; what a user wrote stands in comments, where `quoted` keeps it.
    used = {*namespace, "__builtins__"}
    exec(compile(source, f"<domain {name}>", "exec"), namespace)
    # What it defines are the functions; what it uses, and Python's own names, are not.
    return {word: value for word, value in namespace.items() if word not in used}
