"""The errors of reading and writing images. Each error fails only the item of its image.

If the file may be incomplete, its photo is skipped instead; `flows.steps.images.observation` decides this.
"""

from flows.errors import FlowsError


class ImagingError(FlowsError):
    """The parent of all errors of reading or writing an image."""


class UnreadableImage(ImagingError):
    """The file is empty, damaged, truncated, not an image of an accepted format, or cannot be opened."""


class ImageMissing(UnreadableImage):
    """The file does not exist, or no longer exists."""


class ImageTooLarge(ImagingError):
    """The image has more pixels, or a longer edge, than the limits allow, or needs too much memory to be decoded."""


class ImageTimeout(ImagingError):
    """The image exceeded the time limit; its decoding was stopped."""


class SlowMachine(ImageTimeout):
    """The image exceeded the time limit because its process got too little processor time, or waited for the disk."""


class DecoderCrashed(ImagingError):
    """The process that decoded the image died, or gave no valid answer. Other images are not affected."""


class DecoderKilled(DecoderCrashed):
    """Another process or the system killed the process that decoded the image, for example when memory ran out."""


class DecodingUnavailable(ImagingError):
    """No image can be decoded now: image processing was closed, or no image process could be started."""
