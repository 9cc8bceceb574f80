"""Pictures to measure on, which compress about as photographs do, and how alike two pictures are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flows.imaging.vips import load_vips


def write_photograph(path: Path, width: int, height: int, *, seed: int) -> None:
    """Write a JPEG of soft shapes at all scales, some hard edges and the noise of a sensor."""
    pyvips = load_vips()
    bands = []
    for band in range(3):
        image = pyvips.Image.black(width, height).cast("float")
        for cell, weight in ((1024, 90), (256, 40), (64, 18), (16, 7)):
            image += pyvips.Image.perlin(width, height, cell_size=cell, seed=seed * 100 + cell + band) * weight
        bands.append(image)
    edges = (pyvips.Image.worley(width, height, cell_size=400, seed=seed) % 80 > 40).ifthenelse(22, 0)
    noise = pyvips.Image.gaussnoise(width, height, sigma=2.5, mean=118, seed=seed)
    picture = (bands[0].bandjoin(bands[1:]) + edges + noise).cast("uchar").copy(interpretation="srgb")
    picture.jpegsave(str(path), Q=90)


def likeness(image: Any, reference: Any) -> float:
    """The structural similarity (SSIM) of two pictures of one size, over the luma in blocks of 8 x 8 pixels."""
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
