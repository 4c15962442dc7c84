"""The query record: a neighbourhood as the file of which a certificate has the hash."""

import json
from pathlib import Path

from absolver.analyzer.properties.query import Neighbourhood
from absolver.analyzer.results import write_atomically


def query_record(claim: Neighbourhood) -> bytes:
    """Return the record of a neighbourhood (docs/certificate-format.md, section 7).

    Guarantee: claims of the same arrays and numbers have the same bytes.
    """
    return (json.dumps(claim.record(), indent=1, sort_keys=True) + "\n").encode()


def write_query_record(path: Path, claim: Neighbourhood) -> None:
    """Write the record of a neighbourhood as the file that `audit --query` reads."""
    write_atomically(path, query_record(claim).decode())
