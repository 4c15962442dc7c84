"""Branch and bound: splits of inputs and of operators until every clause is refuted."""
