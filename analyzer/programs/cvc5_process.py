"""A process for one question: reads it in SMT-LIB, has cvc5 answer, and prints that as JSON.

cvc5 cannot be interrupted, and computes on after its limit; a process can be ended.
"""

import json
import sys

import cvc5


def main() -> None:
    """Answer the question on standard input."""
    solver = cvc5.Solver()
    solver.setOption("produce-models", "true")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, sys.stdin.read(), "question")
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        command.invoke(solver, symbols)
    answer = solver.checkSat()
    content: dict[str, object] = {"status": str(answer), "words": "", "point": {}}
    if answer.isUnknown():
        content["words"] = answer.getUnknownExplanation().name
    if answer.isSat():
        content["point"] = {
            str(term): str(solver.getValue(term).getRealValue())
            for term in symbols.getDeclaredTerms()
        }
    json.dump(content, sys.stdout)


if __name__ == "__main__":
    main()
