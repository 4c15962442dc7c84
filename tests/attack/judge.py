"""What the checker says about a certificate in memory: the steps of `audit` without files."""

import hashlib
import io

from absolver.certificates.audit import _claim
from absolver.certificates.container import read_records, verify_hash
from absolver.certificates.network import Broken, Unsupported
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import check_proof
from absolver.certificates.vnnlib import read_vnnlib


class Judge:
    """A network and a property, read once."""

    def __init__(self, model: bytes, text: str) -> None:
        contents = {"network": model, "property": text.encode()}
        self.hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        self.network = read_network(model)
        self.property = read_vnnlib(text.encode(), self.network.inputs, self.network.outputs)

    def __call__(self, content: bytes, tier: str = "fast") -> str:
        """`valid` with the semantics, or what is wrong; every other exception is a fault."""
        stream = io.BytesIO(content)
        try:
            verify_hash(stream)
            stream.seek(0)
            records = read_records(stream)
            claim = _claim(next(records, {}))
            if any(claim[name] != digest for name, digest in self.hashes.items()):
                return "invalid: another file"
            if claim["verdict"] != "verified":
                return "invalid: no claim of verified"
            check_proof(self.network, self.property, records, claim["semantics"], tier)
            for _ in records:
                return "invalid: a record follows"
        except Broken as error:
            return f"invalid: {error}"
        except Unsupported as error:
            return f"incomplete: {error}"
        return f"valid over {claim['semantics']}"
