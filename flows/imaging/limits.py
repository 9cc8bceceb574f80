"""The limits of size, time and memory for an image, the check of its size, and the properties of derivatives.

The values here are for callers that give none. Steps take most values from the settings, whose defaults are in
`storage.settings`.
"""

from dataclasses import dataclass
from typing import Final

from flows.imaging.errors import ImageTooLarge

#: The longest edge of a WebP image.
MAX_WEBP_EDGE_PIXELS: Final = 16_383


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits for one image. An image beyond a limit fails with a reason.

    Attributes:
        max_pixels: the largest product of width and height. The default is twice the size of the largest panoramas of
            cameras.
        max_edge_pixels: the largest length of the longer edge. The default is the limit of JPEG; a longer edge is an
            attack or a mistake.
        max_seconds: the longest time for decoding an image. An image process is killed if all its work on the image
            takes two seconds more.
        max_memory_bytes: the largest address space of an image process. Formats that must be decoded as a whole need
            the most memory.
    """

    max_pixels: int = 500_000_000
    max_edge_pixels: int = 65_535
    max_seconds: float = 120.0
    max_memory_bytes: int = 6 * 1024**3

    @property
    def max_whole_bytes(self) -> int:
        """The largest size in bytes of the decoded pixels of a picture that must be decoded as a whole.

        It is a quarter of the memory, because a decoder needs about twice the size of the pixels, and the encoder also
        needs memory.
        """
        return self.max_memory_bytes // 4

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_edge_pixels, self.max_seconds, self.max_memory_bytes) <= 0:
            raise ValueError(f"{self} is not valid: the limits for images must be greater than zero")

    def check(self, width: int, height: int, *, name: str, whole_bytes: int = 0) -> None:
        """Check before decoding that an image of `width` x `height` pixels is not too large.

        `whole_bytes` is the size of the decoded pixels of an image that must be decoded as a whole; 0 for other images.

        Raises:
            ImageTooLarge: the image has too many pixels, one edge is too long, or decoding would need too much memory.
        """
        if width * height > self.max_pixels:
            raise ImageTooLarge(
                f"{name}: {width:,} x {height:,} pixels are more than the limit of {self.max_pixels / 10**6:,g} "
                "megapixels. Raise the setting max_image_megapixels if the file is a real picture."
            )
        if max(width, height) > self.max_edge_pixels:
            raise ImageTooLarge(
                f"{name}: {width:,} x {height:,} pixels have an edge longer than the limit of "
                f"{self.max_edge_pixels:,}. Save a smaller copy with another program."
            )
        if whole_bytes > self.max_whole_bytes:
            raise ImageTooLarge(
                f"{name}: this picture can only be decoded as a whole. Its {width:,} x {height:,} pixels take "
                f"{whole_bytes / 10**6:,.0f} MB, more than {self.max_whole_bytes / 10**6:,.0f} MB, a quarter of "
                "image_memory_megabytes. Raise this setting if the file is a real picture."
            )


@dataclass(frozen=True, slots=True)
class Rendition:
    """The properties of one kind of derivative.

    Attributes:
        long_edge_pixels: the maximum of the longer edge. Smaller images keep their size.
        quality: the quality of WebP, 1 to 100.
        effort: the effort of WebP, 0 (fast) to 6 (small).
    """

    long_edge_pixels: int
    quality: int
    effort: int

    def __post_init__(self) -> None:
        if not (
            1 <= self.long_edge_pixels <= MAX_WEBP_EDGE_PIXELS and 1 <= self.quality <= 100 and 0 <= self.effort <= 6
        ):
            raise ValueError(
                f"{self} is not valid: the edge must be from 1 to {MAX_WEBP_EDGE_PIXELS}, the quality from 1 to 100, "
                "and the effort from 0 to 6"
            )


DEFAULT_LIMITS: Final = ImageLimits()
THUMBNAIL: Final = Rendition(long_edge_pixels=800, quality=50, effort=2)
#: The properties of previews. Encoding takes most of the time of a derivative. Effort 2 takes 0.4 of the time of
#: effort 4, for 4 to 14 % more bytes and the same similarity (SSIM within 0.003). `encode` may choose effort 1.
PREVIEW: Final = Rendition(long_edge_pixels=5000, quality=60, effort=2)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """The limits for one image, and the properties of its thumbnail and its preview."""

    limits: ImageLimits = DEFAULT_LIMITS
    thumbnail: Rendition = THUMBNAIL
    preview: Rendition = PREVIEW


DEFAULT_OPTIONS: Final = ImageOptions()
