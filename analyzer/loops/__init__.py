"""Recurrent networks over unbounded time: invariants found by join and widening, and runs."""
