"""Convolutions of images and their adjoints, each the other's gradient.

A training spends most of its time in them. Torch's own gradients take the way that is fastest on
the whole; here each is taken by the way that is fastest for its sizes on a CPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

# For fewer channels a flipped convolution is slower than the library's transposed one.
_FEWEST_CHANNELS_FLIPPED = 8


def is_trained(*tensors: Tensor) -> bool:
    """Whether gradients in some of the tensors will be asked for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def convolve(
    images: Float[Tensor, "images channels2 height2 width2"],
    weight: Float[Tensor, "channels channels2 kernel1 kernel2"],
    bias: Float[Tensor, " channels"] | None,
    stride: Sequence[int],
    before: Sequence[int],
) -> Float[Tensor, "images channels height width"]:
    """Convolution with as many cells added on both ends of an axis."""
    apply: Callable[..., Tensor] = _Convolved.apply
    return apply(images, weight, bias, stride, before)


def transpose(
    images: Float[Tensor, "images channels height width"],
    weight: Float[Tensor, "channels channels2 kernel1 kernel2"],
    stride: Sequence[int],
    before: Sequence[int],
    target: Sequence[int],
) -> Float[Tensor, "images channels2 height2 width2"]:
    """The adjoint of `convolve` over images of the sizes `target`."""
    apply: Callable[..., Tensor] = _Transposed.apply
    return apply(images, weight, stride, before, target)


class _Convolved(torch.autograd.Function):
    """A convolution, whose gradient in the images is its adjoint."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        before: Sequence[int],
    ) -> Tensor:
        """Convolve."""
        ctx.save_for_backward(images, weight)
        ctx.step = stride, before
        return functional.conv2d(images, weight, bias, tuple(stride), tuple(before))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Spread the gradient back, and gather the weight's."""
        images, weight = ctx.saved_tensors
        stride, before = ctx.step
        in_images, in_weight, in_bias, *_ = ctx.needs_input_grad
        return (
            transpose(gradient, weight, stride, before, images.shape[2:]) if in_images else None,
            _in_weight(images, weight, gradient, stride, before) if in_weight else None,
            gradient.sum((0, 2, 3)) if in_bias else None,
            None,
            None,
        )


class _Transposed(torch.autograd.Function):
    """The adjoint of a convolution, whose gradient in the images is the convolution."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        images: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        before: Sequence[int],
        target: Sequence[int],
    ) -> Tensor:
        """Spread every cell over the kernel's."""
        ctx.save_for_backward(images, weight)
        ctx.step = stride, before
        return _spread(images, weight, stride, before, target)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Convolve the gradient, and gather the weight's."""
        images, weight = ctx.saved_tensors
        stride, before = ctx.step
        in_images, in_weight, *_ = ctx.needs_input_grad
        return (
            convolve(gradient, weight, None, stride, before) if in_images else None,
            _in_weight(gradient, weight, images, stride, before) if in_weight else None,
            None,
            None,
            None,
        )


def _in_weight(
    images: Tensor, weight: Tensor, gradient: Tensor, stride: Sequence[int], before: Sequence[int]
) -> Tensor:
    """Return the gradient in a weight from that in the convolution's result."""
    gather: Callable[..., Tensor] = conv2d_weight
    return gather(images, weight.shape, gradient, tuple(stride), tuple(before))


def _spread(
    images: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    before: Sequence[int],
    target: Sequence[int],
) -> Tensor:
    """Transpose a convolution by the way that is fastest for its sizes, with its gradients.

    `spread.py` knows what is fastest where nothing is trained.
    """
    channels2, kernel = weight.shape[1], tuple(weight.shape[2:])
    if channels2 == 1:
        # One matrix product gives what every cell spreads, which is then added up in place.
        cells = weight.flatten(1).T @ images.flatten(2)
        return functional.fold(cells, tuple(target), kernel, 1, tuple(before), tuple(stride))
    around = [size - 1 - b for size, b in zip(kernel, before, strict=True)]
    if set(stride) == {1} and channels2 >= _FEWEST_CHANNELS_FLIPPED and min(around) >= 0:
        return functional.conv2d(images, weight.flip(2, 3).transpose(0, 1), None, 1, around)
    size = (len(images), channels2, *target)
    find: Callable[..., Tensor] = conv2d_input
    return find(size, weight, images, tuple(stride), tuple(before))
