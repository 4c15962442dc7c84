"""Why a run that has refuted every clause may still get no certificate."""

from absolver.analyzer.errors import AbsolverError


class NotCertifiable(AbsolverError):  # noqa: N818 - an outcome more than a fault
    """What was found is nothing that a certificate can hold."""
