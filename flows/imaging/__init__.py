"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in processes of their own.

Importing this costs little; libvips is loaded at the first image. No SQL and no Prefect here.
"""

from flows.imaging.derivatives import Derivatives, WrittenImage, make_derivatives
from flows.imaging.errors import (
    DecoderCrashed,
    ImageMissing,
    ImageTimeout,
    ImageTooLarge,
    ImagingError,
    PoolClosed,
    UnreadableImage,
)
from flows.imaging.fingerprint import Fingerprint, SourceCheck, check_source, take_fingerprint
from flows.imaging.isolation import ImagePool, ImageProcessing, InProcessImages, open_image_processing
from flows.imaging.limits import ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import PhotoMetadata, read_metadata

__all__ = [
    "DecoderCrashed",
    "Derivatives",
    "Fingerprint",
    "ImageLimits",
    "ImageMissing",
    "ImageOptions",
    "ImagePool",
    "ImageProcessing",
    "ImageTimeout",
    "ImageTooLarge",
    "ImagingError",
    "InProcessImages",
    "PhotoMetadata",
    "PoolClosed",
    "Rendition",
    "SourceCheck",
    "UnreadableImage",
    "WrittenImage",
    "check_source",
    "make_derivatives",
    "open_image_processing",
    "read_metadata",
    "take_fingerprint",
]
