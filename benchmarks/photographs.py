"""Writes pictures that compress about as well as photographs, and measures the likeness of two pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flows.imaging.pixels.vips import load_vips

#: The distances of the shapes in a picture, in pixels, with their weights. The shapes of `_FORMS` differ in each color.
#: The shapes of `_DETAILS` are fine detail, as of leaves, cloth or stone, which is the same in all colors.
_FORMS = ((1024, 90), (256, 40), (64, 18), (16, 7))
_DETAILS = ((32, 60), (12, 60), (6, 60), (3, 40))


def write_photograph(path: Path, width: int, height: int, *, seed: int, detail: float = 0.7) -> None:
    """Write a JPEG of soft shapes at all scales, hard edges, patches of fine detail, and the noise of a sensor.

    Args:
        detail: the amount of fine detail, from 0 (a clear sky) to 1 (a forest in summer).
    """
    pyvips = load_vips()

    def shapes(scales: Iterable[tuple[int, float]], layer: int) -> Any:
        image = pyvips.Image.black(width, height).cast("float")
        for cell, weight in scales:
            image += pyvips.Image.perlin(width, height, cell_size=cell, seed=seed * 100 + cell + layer) * weight
        return image

    def in_colors(layers: Iterable[Any]) -> Any:
        first, *others = layers
        return first.bandjoin(others)

    edges = (pyvips.Image.worley(width, height, cell_size=400, seed=seed) % 80 > 40).ifthenelse(22, 0)
    patches = pyvips.Image.perlin(width, height, cell_size=500, seed=seed) * 2.5 + 0.5
    patches = (patches < 0).ifthenelse(0, (patches > 1).ifthenelse(1, patches))
    noise = in_colors(pyvips.Image.gaussnoise(width, height, sigma=2, mean=0, seed=seed * 10 + n) for n in range(3))
    picture = in_colors(shapes(_FORMS, n) for n in range(3)) + edges + 118 + shapes(_DETAILS, 3) * patches * detail
    # A camera computes the colors of a pixel from its neighbors, so neither noise nor detail is finer than this blur.
    picture = (picture + noise).gaussblur(0.7)
    picture.cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=92)


def likeness(image: Any, reference: Any) -> float:
    """Return the structural similarity (SSIM) of the luma of two pictures of equal size, in blocks of 8 x 8 pixels."""
    ours, other = (_blocks(one) for one in (image, reference))
    mean_a, mean_b = ours.mean(axis=(1, 3)), other.mean(axis=(1, 3))
    variance_a, variance_b = ours.var(axis=(1, 3)), other.var(axis=(1, 3))
    covariance = (ours * other).mean(axis=(1, 3)) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity.mean())


def _blocks(image: Any) -> Any:
    luma = np.asarray(image.colourspace("b-w")[0].numpy(), dtype=np.float64)
    height, width = (size // 8 * 8 for size in luma.shape)
    return luma[:height, :width].reshape(height // 8, 8, width // 8, 8)
