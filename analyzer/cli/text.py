"""A report as text for people."""

import math
from collections.abc import Iterator, Sequence

from absolver.analyzer.report import Layer, Margin, OutputBounds, Report, Verdict

ROWS_SHOWN = 20


def lines(report: Report) -> Iterator[str]:
    """Give the verdict alone on the first line, its qualifiers on the second, then the details."""
    yield report.verdict.value
    yield "; ".join(qualifiers(report))
    if report.counterexample is not None:
        yield from _counterexample(report)
    if report.margins:
        yield from _margins(report)
    if report.bounds:
        yield from _bounds(report.bounds)
    if report.layers:
        yield from _layers(report.layers)
    if report.notes:
        yield ""
        yield from (f"note: {note}" for note in report.notes)
    if report.checkpoint is not None:
        yield f"checkpoint: the same command goes on from {report.checkpoint}"
    if report.stages:
        yield ""
        yield "time: " + ", ".join(f"{s.name} {s.seconds:.2f} s" for s in report.stages)


def qualifiers(report: Report) -> list[str]:
    """Say what the verdict rests on; what is unchecked comes first."""
    parts = []
    certificate, witness = report.certificate, report.counterexample
    if report.verdict is Verdict.VERIFIED and certificate is None:
        parts.append(f"unchecked: {report.unchecked}")
    if witness is not None:
        parts.append(f"counterexample: {', '.join(witness.grades)}")
        if witness.beside:
            distance = number(witness.beside)
            parts.append(f"its input lies {distance} beside the set, which holds no such floats")
    if report.verdict is Verdict.FALSIFIED and certificate is None:
        parts.append(f"unchecked: {report.unchecked}")
    if report.verdict is not Verdict.FALSIFIED:
        parts.append(f"{report.semantics} semantics")
    if report.domain:
        parts.append(f"domain {report.domain}")
    if report.checked and certificate is not None:
        said = certificate.audit
        how = "audit --tier rational" if said.tier == "rational" else "audit"
        parts.append(f"checked by {how} in {said.seconds:.1f} s ({_size(certificate.size)})")
    parts.extend(text for text in (report.about, report.reason) if text)
    return parts


def number(value: float) -> str:
    """Write a number for a table."""
    return f"{value:.6g}" if math.isfinite(value) else str(value)


def _size(size: int) -> str:
    return f"{size} bytes" if size < 1000 else f"{size / 1000:.1f} kB"


def _counterexample(report: Report) -> Iterator[str]:
    witness = report.counterexample
    assert witness is not None
    yield ""
    yield "counterexample"
    for side, arrays in (("input", witness.inputs), ("output", witness.outputs)):
        for name, array in arrays.items():
            flat = array.reshape(-1)
            shown = ", ".join(str(value) for value in flat[:10])
            rest = f", ... {flat.size - 10} more" if flat.size > 10 else ""
            yield f"  {side} {name} {list(array.shape)}: {shown}{rest}"


def _margins(report: Report) -> Iterator[str]:
    shown: Sequence[Margin] = report.margins[:ROWS_SHOWN]
    total = len(report.margins) + report.margins_left_out
    refuted = "a constraint with a positive margin cannot be met"
    yield ""
    yield f"margins of the {total} constraints of the unsafe set ({refuted})"
    width = max(len(margin.constraint) for margin in shown)
    for margin in shown:
        word = "refuted" if margin.refuted else "open"
        clause = f"clause {margin.clause}"
        yield f"  {clause:<12} {margin.constraint:<{width}}  {number(margin.lower):>12}  {word}"
    if total > len(shown):
        yield f"  ... {total - len(shown)} more with larger margins"


def _bounds(bounds: Sequence[OutputBounds]) -> Iterator[str]:
    yield ""
    yield "output bounds"
    width = max(len(bound.name) for bound in bounds)
    for bound in bounds[:ROWS_SHOWN]:
        yield f"  {bound.name:<{width}}  {number(bound.lower):>12}  {number(bound.upper):>12}"
    if len(bounds) > ROWS_SHOWN:
        yield f"  ... {len(bounds) - ROWS_SHOWN} more (--json has all)"


def _layers(layers: Sequence[Layer]) -> Iterator[str]:
    width = max(len("layer"), *(len(layer.name) for layer in layers))
    kind = max(len("operator"), *(len(layer.operator) for layer in layers))
    yield ""
    yield f"{'layer':<{width}}  {'operator':<{kind}}    stable  unstable    mean width"
    for layer in layers:
        yield (
            f"{layer.name:<{width}}  {layer.operator:<{kind}}  {layer.stable:>8}  "
            f"{layer.unstable:>8}  {number(layer.mean_width):>12}"
        )
