"""What can go wrong with one image. Each costs its own item and nothing else."""

from flows.errors import FlowsError


class ImagingError(FlowsError):
    """The parent of everything that reading or writing an image raises."""


class UnreadableImage(ImagingError):
    """The file is empty, damaged, cut off, no image of an accepted format, or cannot be opened."""


class ImageMissing(UnreadableImage):
    """There is no such file (any more)."""


class ImageTooLarge(ImagingError):
    """The image has more pixels, or a longer edge, than the limits allow; it was not decoded."""


class ImageTimeout(ImagingError):
    """The image took longer than it may; its decoding was stopped."""


class SlowMachine(ImageTimeout):
    """The image took longer than it may because its process had too little of the processor, or waited for the disk."""


class DecoderCrashed(ImagingError):
    """The process that decoded the image died; other images are not touched by it."""


class DecoderKilled(DecoderCrashed):
    """Something from outside killed the process, as Linux does when memory runs out."""


class PoolClosed(ImagingError):
    """An image pool was used after it had been closed."""
