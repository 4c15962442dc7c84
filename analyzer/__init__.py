"""The analyzer: graphs, properties, propagation, fixpoint, verdicts, command line."""
