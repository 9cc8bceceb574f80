"""Converts pixels of libvips to sRGB with 8 bits per channel, and reduces them without a conversion.

`flows.imaging.pixels.decode` decides which images are converted.
"""

from typing import Any

from flows.imaging.headers.exif import interoperability_index
from flows.imaging.pixels import vips

# The matrix is from Adobe RGB (1998) Color Image Encoding, section 4.3.5.3.
_ADOBE_RGB_TO_XYZ = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]

#: The number of bands of a CIELAB image without transparency.
_LAB_BANDS = 3


def as_srgb(image: Any) -> Any:
    """Convert decoded pixels to sRGB or gray, with 8 bits per channel and at most four channels."""
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("srgb")
    if image.format != "uchar":
        image = image.cast("uchar")
    # A TIFF may have further channels after red, green, blue and alpha. These further channels are dropped.
    return image if image.bands <= 4 else image[:4]


def resized(image: Any, long_edge_pixels: int) -> Any:
    """Reduce an image to the size that `thumbnail_image` would give it, without a conversion of its values."""
    scale = long_edge_pixels / max(image.width, image.height)
    return image.resize(scale) if scale < 1 else image


def resized_lab(image: Any, long_edge_pixels: int) -> Any:
    """Reduce a CIELAB image, which may have transparency, without a conversion of its colors."""
    if image.bands <= _LAB_BANDS:
        return resized(image, long_edge_pixels)
    # Colors are weighted by their opacity, because `resize` would mix the colors of transparent pixels into the edges.
    weighted = resized(image.premultiply(max_alpha=255), long_edge_pixels)
    return weighted.unpremultiply(max_alpha=255)


def is_adobe_rgb(header: Any) -> bool:
    """Return whether a file without a profile is in Adobe RGB: DCF marks this by the interoperability index R03."""
    if header.interpretation != "srgb" or header.get_typeof("exif-data") == 0:
        return False
    return interoperability_index(bytes(header.get("exif-data"))) == "R03"


def from_adobe_rgb(image: Any) -> Any:
    """Convert pixels from Adobe RGB (1998) to sRGB through XYZ. Both have the same white point."""
    pyvips = vips.load_vips()
    linear = (image[:3] / 255) ** (563 / 256)
    xyz = linear.recomb(pyvips.Image.new_from_array(_ADOBE_RGB_TO_XYZ)) * 100
    colors = xyz.copy(interpretation="xyz").colourspace("srgb")
    return colors if image.bands == 3 else colors.bandjoin(image[3])
