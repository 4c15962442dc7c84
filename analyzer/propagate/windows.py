"""Coefficient rows that touch one small window of an image each, for convolutional networks.

A row that starts at one neuron of a convolution's result multiplies only the cells under the
kernel; a few layers further back its window is still smaller than the image. Such rows are kept as
`[channels, height, width]` windows whose place is a function of the neuron's position alone.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.linear.convolution import Convolution
from absolver.analyzer.graph.linear.map import Shape
from absolver.analyzer.graph.linear.spread import spread

# Beyond this share of the image, windows save nothing any more.
_LARGEST_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows over an image node `[1, channels, height, width]`, each zero outside its window.

    The window of a row at position p starts at cell `p * scale + offset` along each axis, which
    may lie outside of the image. Several rows may share a position: `values` holds
    `sides * len(positions)` rows for each batch element, side after side.
    """

    values: Float[Tensor, "group rows channels height width"]
    positions: Int[Tensor, "group positions 2"]
    grid: tuple[int, int]
    """The image in which the positions lie: every position is below it."""
    scale: tuple[int, int]
    offset: tuple[int, int]
    shape: Shape
    """The shape of the node that the rows multiply."""
    clean: bool
    """Whether cells of windows outside of the image are zero; if not they mean nothing."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.values.shape[3], self.values.shape[4]

    def at_windows(
        self, weights: Float[Tensor, "group channels rows columns"]
    ) -> Float[Tensor, "group 1 positions channels height width"]:
        """Cut the window of every position out of a tensor over the image, zero outside of it."""
        padded, start = self._padded(weights)
        views = padded
        for axis, (size, scale, first) in enumerate(
            zip(self.size, self.scale, start, strict=True), start=2
        ):
            views = views.narrow(axis, first, views.shape[axis] - first).unfold(axis, size, scale)
        views = views.permute(0, 2, 3, 1, 4, 5)
        group = torch.arange(views.shape[0], device=views.device).unsqueeze(1)
        cut = views[group, self.positions[..., 0], self.positions[..., 1]]
        return cut.unsqueeze(1)

    def by_side(self) -> Float[Tensor, "group sides positions channels height width"]:
        """View the values with the sides on an axis of their own."""
        return torch.unflatten(self.values, 1, (-1, self.positions.shape[1]))

    def with_sides(self, values: Tensor) -> "Windows":
        """Replace the values by ones with sides on an axis of their own, zero outside the image."""
        return replace(self, values=values.flatten(1, 2), clean=True)

    def with_negations(self) -> "Windows":
        """Put the negation of every row behind the rows."""
        return replace(self, values=torch.cat([self.values, -self.values], dim=1))

    def cleaned(self) -> "Windows":
        """Set cells outside of the image to zero."""
        if self.clean:
            return self
        ones = self.values.new_ones((1, *self.shape[1:])).expand(self.values.shape[0], -1, -1, -1)
        return self.with_sides(self.by_side() * self.at_windows(ones))

    def dense(self) -> Float[Tensor, "group rows 1 channels height width"]:
        """Write the rows out over the whole image."""
        before, after = self._margins()
        group, rows, channels, height, width = self.values.shape
        image = [size + b + a for size, b, a in zip(self.shape[2:], before, after, strict=True)]
        corner = self.positions * self.positions.new_tensor(self.scale)
        corner = corner + self.positions.new_tensor(
            [o + b for o, b in zip(self.offset, before, strict=True)]
        )
        start = corner[..., 0] * image[1] + corner[..., 1]
        start = start.repeat(1, rows // start.shape[1])
        device = self.values.device
        cells = torch.arange(channels, device=device).view(-1, 1, 1) * (image[0] * image[1])
        cells = cells + torch.arange(height, device=device).view(-1, 1) * image[1]
        cells = (cells + torch.arange(width, device=device)).flatten()
        canvas = self.values.new_zeros((group, rows, channels * image[0] * image[1]))
        index = start.unsqueeze(2) + cells
        canvas = canvas.scatter(2, index, self.values.flatten(2))
        canvas = canvas.view(group, rows, 1, channels, *image)
        for axis, (b, size) in enumerate(zip(before, self.shape[2:], strict=True), start=4):
            canvas = canvas.narrow(axis, b, size)
        return canvas

    def through(self, convolution: Convolution) -> "Windows | None":
        """Substitute a convolution back; None where windows of its input are not worthwhile."""
        if not _supported(convolution):
            return None
        size = (
            (self.size[0] - 1) * convolution.stride[0] + convolution.kernel[0],
            (self.size[1] - 1) * convolution.stride[1] + convolution.kernel[1],
        )
        height, width = convolution.input_shape[2:]
        if size[0] * size[1] > _LARGEST_SHARE * height * width:
            return None
        values = self.cleaned().values
        rows = values.flatten(0, 1)
        if (matrix := convolution.unrolled(self.size)) is not None:
            result = (rows.flatten(1) @ matrix.flatten(1)).view(len(rows), -1, *size)
        else:
            result = spread(rows, convolution.weight, convolution.stride, (0, 0), size)
        return replace(
            self,
            values=torch.unflatten(result, 0, values.shape[:2]),
            scale=(self.scale[0] * convolution.stride[0], self.scale[1] * convolution.stride[1]),
            offset=(
                self.offset[0] * convolution.stride[0] - convolution.padding[0][0],
                self.offset[1] * convolution.stride[1] - convolution.padding[1][0],
            ),
            shape=convolution.input_shape,
            clean=False,
        )

    def plus(self, other: "Windows") -> "Windows | None":
        """Add rows of the same positions; None where their windows move at different speeds."""
        if self.scale != other.scale or self.positions is not other.positions:
            return None
        offset = (min(self.offset[0], other.offset[0]), min(self.offset[1], other.offset[1]))
        end = (max(self._end(0), other._end(0)), max(self._end(1), other._end(1)))
        parts = [w._enlarged(offset, end) for w in (self, other)]
        return replace(
            self,
            values=parts[0] + parts[1],
            offset=offset,
            clean=self.clean and other.clean,
        )

    def _end(self, axis: int) -> int:
        return self.offset[axis] + self.size[axis]

    def _enlarged(self, offset: tuple[int, int], end: tuple[int, int]) -> Tensor:
        top, left = self.offset[0] - offset[0], self.offset[1] - offset[1]
        bottom, right = end[0] - self._end(0), end[1] - self._end(1)
        return functional.pad(self.values, (left, right, top, bottom))

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Cells to add before and after the image so that all windows lie inside."""
        before = (max(0, -self.offset[0]), max(0, -self.offset[1]))
        ends = [
            (grid - 1) * scale + offset + n - size
            for grid, scale, offset, n, size in zip(
                self.grid, self.scale, self.offset, self.size, self.shape[2:], strict=True
            )
        ]
        return before, (max(0, ends[0]), max(0, ends[1]))

    def _padded(self, weights: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pad a tensor over the image so that all windows lie inside, and say where they start."""
        before, after = self._margins()
        start = (self.offset[0] + before[0], self.offset[1] + before[1])
        if not any((*before, *after)):
            return weights, start
        pads = (before[1], after[1], before[0], after[0])
        return functional.pad(weights, pads), start


def one_cell_windows(shape: Shape, neurons: Int[Tensor, "group rows"], like: Tensor) -> Windows:
    """Make the rows that pick single neurons of an image: windows of one cell."""
    _, channel, row, column = torch.unravel_index(neurons, shape)
    values = like.new_zeros((*neurons.shape, shape[1]))
    values.scatter_(2, channel.unsqueeze(2), 1)
    return Windows(
        values=values[..., None, None],
        positions=torch.stack([row, column], dim=2),
        grid=(shape[2], shape[3]),
        scale=(1, 1),
        offset=(0, 0),
        shape=shape,
        clean=True,
    )


def _supported(convolution: Convolution) -> bool:
    return (
        len(convolution.input_shape) == 4
        and convolution.input_shape[0] == 1
        and convolution.groups == 1
        and all(d == 1 for d in convolution.dilation)
        and all(before >= 0 and after >= 0 for before, after in convolution.padding)
    )
