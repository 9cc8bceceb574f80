"""The one door to libvips: loaded late, told what it may decode, and its error texts made short.

Importing this module costs nothing; `load_vips` loads the library.
"""

import logging
import re
import threading
from typing import Any, Final

# What we accept, by the names of the loaders' classes. UltraHDR stays out: its files are JPEGs, and read as such.
_ACCEPTED_LOADERS: Final = ("Jpeg", "Png", "Webp", "Tiff", "Heif")
_REASONS: Final = (
    ("not a known|not in a known|unable to load from source", "it is no image of an accepted format"),
    ("premature end|end of file|truncat|unable to parse|bad seek|read error", "the file is cut off or damaged"),
    ("pixel limit|too large|too big", "it is larger than its format allows"),
)
_UNSUPPORTED_CODEC: Final = re.compile(
    r"unsupported (codec|feature|jpeg data precision)|compression format has not been built|no decod"
    r"|support is not configured|decoding is not implemented|samples out of range",
    re.I,
)

_lock = threading.Lock()
_loaded: Any = None


def load_vips() -> Any:
    """The `pyvips` module, set up for files from anywhere.

    Only the accepted formats can be decoded, in the whole process; nothing is cached, since no image is read twice;
    warnings go to the log of `pyvips` at their level, which is `ERROR` unless somebody set it.
    """
    global _loaded  # libvips is one for the process, and so is its set-up.
    with _lock:
        if _loaded is None:
            import pyvips

            logger = logging.getLogger("pyvips")
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.ERROR)
            pyvips.cache_set_max(0)
            pyvips.cache_set_max_mem(0)
            pyvips.cache_set_max_files(0)
            pyvips.block_untrusted_set(True)
            pyvips.operation_block_set("VipsForeignLoad", True)
            for name in _ACCEPTED_LOADERS:
                pyvips.operation_block_set(f"VipsForeignLoad{name}", False)
            _loaded = pyvips
    return _loaded


def set_threads(count: int) -> None:
    """Let libvips use so many threads for one image, in the whole process."""
    load_vips().concurrency_set(count)


def threads() -> int:
    """How many threads libvips uses for one image."""
    count: int = load_vips().concurrency_get()
    return count


def can_read(suffix: str) -> bool:
    """Whether this build of libvips has a decoder for files of this suffix, such as `.heic`."""
    return suffix.lower() in load_vips().get_suffixes()


def short_reason(error: Exception) -> str:
    """One short sentence part for a libvips error, whose own text has many lines and may hold others' leftovers."""
    text = str(error)
    for pattern, reason in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    detail = lines[-1] if lines else "no reason given"
    return f"it cannot be decoded ({detail[:120]})"


def is_unsupported_codec(error: Exception) -> bool:
    """Whether the file is sound, as far as one can tell, but needs a decoder that this build does not have."""
    return _UNSUPPORTED_CODEC.search(str(error)) is not None


def is_over_limit_of_format(error: Exception) -> bool:
    """Whether the file is sound, but larger or of more parts than its decoder reads without being asked to."""
    return "exceeds the security limit" in str(error)


def clear_errors() -> None:
    """Forget what libvips noted before, so that the next error tells of the next image alone."""
    load_vips().vips_lib.vips_error_clear()
