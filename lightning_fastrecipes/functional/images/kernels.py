"""Kernels with names: what a convolution by hand is first shown with.

>>> KERNELS["outline"]
((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))
"""

from types import MappingProxyType

Kernel = tuple[tuple[float, ...], ...]


def _scaled(rows: Kernel, by: float) -> Kernel:
    return tuple(tuple(value / by for value in row) for row in rows)


_BINOMIAL = (1, 4, 6, 4, 1)

KERNELS = MappingProxyType[str, Kernel](
    {
        "identity": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
        "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
        "blur": _scaled(((1, 2, 1), (2, 4, 2), (1, 2, 1)), 16),
        "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
        "outline": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
        "top sobel": ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
        "bottom sobel": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
        "left sobel": ((1, 0, -1), (2, 0, -2), (1, 0, -1)),
        "right sobel": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
        "one pixel (1 x 1)": ((1,),),
        "half as bright (1 x 1)": ((0.5,),),
        "wide blur (5 x 5)": tuple(
            tuple(row * column / 256 for column in _BINOMIAL) for row in _BINOMIAL
        ),
        "mean (7 x 7)": ((1 / 49,) * 7,) * 7,
    }
)
"""Kernels by name, each a square of rows from the top.

Those of 3 x 3 are the notes' own, with the values of Victor Powell's *Image kernels* (2015). A
kernel is laid over the image as it is, not turned, as layers of networks do it: ``right sobel`` is
positive where an image gets brighter to the right.
"""
