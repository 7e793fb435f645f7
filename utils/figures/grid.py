"""Several pictures as one."""

import math

import numpy as np

__all__ = ["picture_grid"]


def picture_grid(pictures: np.ndarray, columns: int = 8, gap: int = 2) -> np.ndarray:
    """Arrange pictures [N, C, H, W] or one [C, H, W] in a grid, uint8 [3, H', W'] on white.

    The pictures are uint8 or floats in [0, 1], and C is 1 or 3.
    """
    if pictures.ndim == 3:
        return picture_grid(pictures[None], columns, gap=0)
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not pictures.size:
        raise ValueError(f"pictures must be [N, C, H, W] with 1 or 3 channels, not {list(pictures.shape)}")
    if not np.issubdtype(pictures.dtype, np.integer):
        pictures = (np.nan_to_num(pictures.astype(np.float32)).clip(0, 1) * 255).round()
    count, _, height, width = pictures.shape
    columns = min(columns, count)
    shape = 3, math.ceil(count / columns) * (height + gap) - gap, columns * (width + gap) - gap
    grid = np.full(shape, 255, dtype=np.uint8)
    for number, picture in enumerate(pictures.clip(0, 255).astype(np.uint8)):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = picture
    return grid
