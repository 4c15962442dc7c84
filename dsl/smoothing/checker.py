"""From the declaration of a noise domain to one whose radius is known to have a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from absolver.dsl.errors import CarrierError, ExpressionError, NoiseError, UnknownWordError
from absolver.dsl.expressions import closest
from absolver.dsl.smoothing.kinds import FUNCTIONS, GRADIENT, KINDS, ONLY_ABLATION, Kind
from absolver.dsl.syntax import (
    Binary,
    Call,
    Certifies,
    Conditional,
    Declaration,
    Expression,
    Name,
    Noise,
    Parameter,
    Span,
    Unary,
    Word,
    children,
)


@dataclass(frozen=True)
class NoiseDomain:
    """A distribution around an input, and the radius that it certifies in a norm.

    `radius` is an expression; with a `variable`, it is a condition, and the radius the largest
    value of the variable at which it holds. The parameter `searched`
    makes it as large as it can be.
    """

    name: str
    doc: str
    kind: Kind
    parameter: str
    norm: str
    radius: Expression
    variable: str | None
    searched: Parameter | None
    span: Span = field(compare=False, repr=False)

    @property
    def first_order(self) -> bool:
        """Whether the radius depends on a bound of the gradient."""
        return _mentions(self.radius, GRADIENT)

    @property
    def element(self) -> str:
        """What the domain is, in the language's words."""
        return f"noise {self.kind.name}({self.parameter}), norm {self.norm}"


def is_noise(declaration: Declaration) -> bool:
    """Say whether a file declares noise, and so bounds no neurons."""
    return any(isinstance(each, Noise | Certifies) for each in declaration.statements)


def check_noise(declaration: Declaration) -> NoiseDomain:
    """Check a noise domain; raises a located `DomainError` at what has no meaning."""
    noise: Noise | None = None
    certifies: Certifies | None = None
    for statement in declaration.statements:
        if isinstance(statement, Noise) and noise is None:
            noise = statement
        elif isinstance(statement, Certifies) and certifies is None:
            certifies = statement
        else:
            message = "a noise domain has one line `noise …` and one line `certifies …`, no more"
            raise CarrierError(statement.span, message, "leave this line out")
    if noise is None or certifies is None:
        word = "noise normal(sigma)" if noise is None else "certifies norm 2 radius …"
        message = f"`{declaration.name.text}` has no line `{word.split()[0]} …`"
        raise CarrierError(declaration.name.span, message, f"add `{word}`")
    kind = _kind(noise)
    norm = _norm(certifies, kind)
    words = {**kind.words, noise.parameter.text: kind.parameter}
    if noise.parameter.text in kind.words or noise.parameter.text in FUNCTIONS:
        message = f"`{noise.parameter.text}` means something else already"
        raise NoiseError(noise.parameter.span, message, "choose another name for the parameter")
    if (variable := certifies.variable) is not None:
        if variable.text in words or variable.text in FUNCTIONS:
            message = f"`{variable.text}` means something else already"
            raise NoiseError(variable.span, message, "choose another name for the radius")
        words[variable.text] = "the radius"
    parameters = tuple(_parameters(certifies.radius))
    for second in parameters[1:]:
        message = "a second parameter: the radius of a noise domain has one at most"
        raise NoiseError(second.span, message, "write the name of the first one alone")
    _Scope(kind, words, parameters).check(certifies.radius, condition=variable is not None)
    return NoiseDomain(
        name=declaration.name.text,
        doc=declaration.doc,
        kind=kind,
        parameter=noise.parameter.text,
        norm=norm,
        radius=certifies.radius,
        variable=variable.text if variable else None,
        searched=parameters[0] if parameters else None,
        span=certifies.span,
    )


def _kind(noise: Noise) -> Kind:
    if noise.kind.text not in KINDS:
        message = f"there is no noise `{noise.kind.text}`"
        raise NoiseError(noise.kind.span, message, closest(noise.kind.text, KINDS))
    return KINDS[noise.kind.text]


def _norm(certifies: Certifies, kind: Kind) -> str:
    for word, meant in zip(certifies.words, ("norm", "radius"), strict=True):
        if word.text != meant:
            message = f"`{word.text}` means nothing here"
            raise NoiseError(word.span, message, "write `certifies norm 2 radius …`")
    written = certifies.norm
    norm = written.text if isinstance(written, Name) else f"{written.value:g}"
    if norm not in kind.norms:
        message = f"no worst case of `{kind.name}` noise is known in norm {norm}"
        known = " or ".join(f"`norm {each}`" for each in kind.norms)
        raise NoiseError(written.span, message, f"write {known}")
    return norm


def _parameters(expression: Expression) -> list[Parameter]:
    found = [expression] if isinstance(expression, Parameter) else []
    return found + [each for child in children(expression) for each in _parameters(child)]


def _mentions(expression: Expression, word: str) -> bool:
    if isinstance(expression, Word):
        return expression.text == word
    return any(_mentions(part, word) for part in children(expression))


@dataclass(frozen=True)
class _Scope:
    """What has a meaning in a radius."""

    kind: Kind
    words: Mapping[str, str]
    parameters: tuple[Parameter, ...]

    def check(self, expression: Expression, *, condition: bool) -> None:
        """Raise an error at a word without a meaning, or a condition in a number's place."""
        match expression:
            case Word():
                self._word(expression)
            case Call():
                self._call(expression)
            case Conditional(condition=first, then=then, otherwise=otherwise):
                self.check(first, condition=True)
                self._numbers(then, otherwise)
            case Parameter():
                self._parameter(expression)
            case Unary(operation="not") | Binary(operation="and" | "or"):
                for part in children(expression):
                    self.check(part, condition=True)
            case _:
                self._numbers(*children(expression))
        found = isinstance(expression, Unary | Binary) and expression.operation not in "+-*/"
        if found != condition:
            wanted = "a condition" if condition else "a number"
            message = f"{wanted} is needed here"
            remedy = "compare two numbers" if condition else "write an expression"
            raise ExpressionError(expression.span, message, remedy)

    def _numbers(self, *parts: Expression) -> None:
        for part in parts:
            self.check(part, condition=False)

    def _word(self, word: Word) -> None:
        known = [*self.words, *(parameter.name for parameter in self.parameters)]
        if word.text not in known:
            message = f"`{word.text}` means nothing in the radius of {self.kind.name} noise"
            raise UnknownWordError(word.span, message, closest(word.text, known))

    def _parameter(self, parameter: Parameter) -> None:
        if parameter.shared or parameter.name in self.words:
            message = f"`{parameter.name}` is no parameter that a radius can have"
            remedy = "leave `shared per layer` out, and choose a name of its own"
            raise NoiseError(parameter.span, message, remedy)
        _Scope(self.kind, self.words, ())._numbers(*children(parameter))

    def _call(self, call: Call) -> None:
        wanted = FUNCTIONS.get(call.function)
        if wanted is None or (call.function == ONLY_ABLATION and self.kind.name != "ablation"):
            message = f"there is no function `{call.function}` of {self.kind.name} noise"
            raise UnknownWordError(call.span, message, closest(call.function, FUNCTIONS))
        given = len(call.arguments)
        if given != wanted and (wanted or given < 2):
            message = f"`{call.function}` takes {wanted or 'two or more'}, not {given}"
            raise ExpressionError(call.span, message, "count the commas")
        self._numbers(*call.arguments)
