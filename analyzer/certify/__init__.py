"""Certificates: what a run has found, written as proposals that a checker of its own can judge."""
