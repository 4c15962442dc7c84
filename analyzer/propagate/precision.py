"""Float32 that is float32: no TensorFloat-32 while bounds are computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep a GPU from rounding the operands of products to TF32's 11 bits inside the block.

    torch allows it for convolutions by default; a bound computed so can be wrong in the third
    digit. The settings are those of the process, and are put back afterwards.
    """
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
