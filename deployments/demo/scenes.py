"""Draws pictures that look like landscape photographs on a contact sheet; the same seed makes the same pictures.

This module does not process photographs of users; `flows.imaging` does.
"""

from __future__ import annotations

import math
import random
from array import array
from functools import lru_cache
from typing import Any

import pyvips

from deployments.demo.projects import Shot

#: A scene is this many pixels larger than the photos that are cut out of it, so that each photo shows another part.
ROOM_PIXELS = 160

#: The number of hill ranges in a scene.
RANGES = 3

# For each EXIF orientation, the operations that turn an upright scene into the pixels that a camera stores
# with this orientation.
_TURNS: dict[int, tuple[str, ...]] = {
    1: (),
    2: ("fliphor",),
    3: ("rot180",),
    4: ("flipver",),
    5: ("rot90", "fliphor"),
    6: ("rot270",),
    7: ("rot270", "fliphor"),
    8: ("rot90",),
}


def draw_shots(shots: list[Shot]) -> None:
    """Draw photographs into files; their folders must exist."""
    for shot in shots:
        draw_shot(shot)


def draw_shot(shot: Shot) -> None:
    """Draw one photograph into its file."""
    width, height = (shot.width, shot.height) if shot.orientation < 5 else (shot.height, shot.width)
    is_large = width * height > 1_000_000
    if is_large:
        image = _scene(width, height, shot.scene_seed)
    else:
        longest = max(width, height) + ROOM_PIXELS
        x, y = (shot.number * 37) % (longest - width), (shot.number * 53) % (longest - height)
        image = _kept_scene(longest, shot.scene_seed).crop(x, y, width, height)
    light = [0.86 + 0.025 * (shot.number * factor % 11) for factor in (3, 5, 7)]
    noise = _kept_noise(640).crop(shot.number * 13 % 200, shot.number * 29 % 200, 320, 320)
    noise = noise.replicate(-(-width // 320), -(-height // 320)).crop(0, 0, width, height)
    image = (image * light + noise).cast("uchar").copy(interpretation="srgb")
    for turn in _TURNS[shot.orientation]:
        image = getattr(image, turn)()
    _write(image, shot)


def _write(image: Any, shot: Shot) -> None:
    if shot.path.suffix.lower() == ".png":
        image.pngsave(str(shot.path), compression=3)
        return
    if shot.make is not None:
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", shot.orientation)
        texts = {"exif-ifd0-Make": shot.make, "exif-ifd0-Model": shot.model}
        if shot.taken_at is not None:
            texts["exif-ifd2-DateTimeOriginal"] = shot.taken_at.strftime("%Y:%m:%d %H:%M:%S")
        for name, value in texts.items():
            image.set_type(pyvips.GValue.gstr_type, name, value or "")
    image.jpegsave(str(shot.path), Q=82)


@lru_cache(maxsize=16)
def _kept_scene(size: int, seed: int) -> Any:
    return _scene(size, size, seed).copy_memory()


@lru_cache(maxsize=1)
def _kept_noise(size: int) -> Any:
    return pyvips.Image.gaussnoise(size, size, mean=0, sigma=3, seed=1).copy_memory()


def _scene(width: int, height: int, seed: int) -> Any:
    chance = random.Random(seed)  # noqa: S311 - a picture, not a secret.
    place = pyvips.Image.xyz(width, height)
    x, y = place[0], place[1]
    zenith = [chance.randint(40, 110), chance.randint(90, 160), chance.randint(170, 235)]
    horizon = [chance.randint(200, 255), chance.randint(170, 230), chance.randint(140, 220)]
    image = (y / height) * [low - high for high, low in zip(zenith, horizon, strict=True)] + zenith
    sun_x, sun_y = chance.uniform(0.15, 0.85) * width, chance.uniform(0.1, 0.35) * height
    radius = chance.uniform(0.03, 0.07) * height
    image = ((x - sun_x) ** 2 + (y - sun_y) ** 2 < radius**2).ifthenelse([255, 246, 214], image)
    for nearness in range(RANGES):
        color = [chance.randint(70, 140), chance.randint(85, 150), chance.randint(70, 130)]
        ridge = _ridge(width, height, chance, at=0.45 + 0.17 * nearness)
        image = (y > ridge).ifthenelse([value * (0.95 - 0.25 * nearness) for value in color], image)
    return image


def _ridge(width: int, height: int, chance: random.Random, *, at: float) -> Any:
    waves = [
        (
            chance.uniform(0.02, 0.09) * height / (k + 1),
            chance.uniform(1, 3) * (k + 1) * math.tau / width,
            chance.uniform(0, math.tau),
        )
        for k in range(4)
    ]
    line = array(
        "f",
        (
            at * height
            + sum(rise * math.sin(column * math.tau * often / width + start) for rise, often, start in waves)
            for column in range(width)
        ),
    )
    return pyvips.Image.new_from_memory(line.tobytes(), width, 1, 1, "float").replicate(1, height)
