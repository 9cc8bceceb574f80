"""What an image may cost at most, and what its derivatives look like. Plain values; nothing is enforced here."""

from dataclasses import dataclass
from typing import Final

#: The longest edge that WebP can hold.
MAX_WEBP_EDGE_PIXELS: Final = 16_383


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one image may cost; beyond it the image fails with a reason.

    Attributes:
        max_pixels: width times height; twice the largest stitched panoramas that cameras make.
        max_edge_pixels: the longer edge; what JPEG can hold. A longer one is a trick or a mistake.
        max_seconds: how long one image may take, from its opening to its derivatives.
        max_memory_bytes: address space of an image process; what a format needs that cannot be decoded in strips.
    """

    max_pixels: int = 500_000_000
    max_edge_pixels: int = 65_535
    max_seconds: float = 60.0
    max_memory_bytes: int = 6 * 1024**3

    @property
    def max_whole_bytes(self) -> int:
        """What the decoded pixels may take of a picture that its format lets decode only as a whole.

        Decoders need about twice as much, beside what the encoder takes.
        """
        return self.max_memory_bytes // 4

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_edge_pixels, self.max_seconds, self.max_memory_bytes) <= 0:
            raise ValueError("limits of images must be greater than zero")


@dataclass(frozen=True, slots=True)
class Rendition:
    """How one kind of derivative is made.

    Attributes:
        long_edge_pixels: the longer edge at most; smaller images stay as they are.
        quality: of WebP, 1 to 100.
        effort: of WebP, 0 (fast) to 6 (small).
    """

    long_edge_pixels: int
    quality: int
    effort: int

    def __post_init__(self) -> None:
        if not (
            1 <= self.long_edge_pixels <= MAX_WEBP_EDGE_PIXELS and 1 <= self.quality <= 100 and 0 <= self.effort <= 6
        ):
            raise ValueError(
                f"{self} is not possible: the edge goes from 1 to {MAX_WEBP_EDGE_PIXELS}, "
                "quality from 1 to 100, effort from 0 to 6"
            )


#: What an image may cost where no setting says otherwise.
DEFAULT_LIMITS: Final = ImageLimits()
THUMBNAIL: Final = Rendition(long_edge_pixels=800, quality=50, effort=2)
#: Encoding is most of the time. Effort 2 takes 0.4 of the time of effort 4, for 4 to 14 % more bytes and the same
#: likeness (SSIM within 0.003). `encode` says when it becomes effort 1.
PREVIEW: Final = Rendition(long_edge_pixels=5000, quality=60, effort=2)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """All that can be set about images.

    Attributes:
        limits: what an image may cost.
        thumbnail: how thumbnails are made.
        preview: how previews are made.
    """

    limits: ImageLimits = DEFAULT_LIMITS
    thumbnail: Rendition = THUMBNAIL
    preview: Rendition = PREVIEW


#: Images where no setting says otherwise.
DEFAULT_OPTIONS: Final = ImageOptions()
