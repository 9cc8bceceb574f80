"""Loads libvips for photographs, restricted to the accepted formats, and shortens its error texts.

Importing this module does not load libvips; a call of `load_vips` loads it. Only `deployments.demo.scenes`, which draws
the pictures of the demo, imports libvips directly.
"""

import logging
import re
import threading
from typing import Any, Final

# The accepted formats, by the class names of libvips loaders. UltraHDR is not listed, so its files are read as JPEGs.
_ACCEPTED_LOADERS: Final = ("Jpeg", "Png", "Webp", "Tiff", "Heif")
_REASONS: Final = (
    (
        "not a known|not in a known|unable to load from source",
        "it is not an image of an accepted format; open the file in another program to check it",
    ),
    (
        "premature end|end of file|truncat|unable to parse|bad seek|read error",
        "the file is cut off or damaged; restore it from a backup",
    ),
    ("pixel limit|too large|too big", "it is larger than its format allows; save a smaller copy"),
)
_UNSUPPORTED_CODEC: Final = re.compile(
    r"unsupported (codec|feature|jpeg data precision)|compression format has not been built|no decod"
    r"|support is not configured|decoding is not implemented|samples out of range",
    re.I,
)

_lock = threading.Lock()
_loaded: Any = None


def load_vips() -> Any:
    """Return the `pyvips` module, configured for untrusted files.

    The configuration applies to the whole process. Only the accepted formats can be decoded. The cache of libvips is
    off, because no image is read twice. The level of the `pyvips` logger is `ERROR` unless the program has set another
    level.
    """
    global _loaded  # libvips and its configuration exist once in a process.
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
    """Set the number of threads that libvips uses for one image, in the whole process."""
    load_vips().concurrency_set(count)


def threads() -> int:
    """Return the number of threads that libvips uses for one image."""
    count: int = load_vips().concurrency_get()
    return count


def short_reason(error: Exception) -> str:
    """Return a libvips error in a few words.

    The text of the error itself has many lines, some of them from earlier errors.
    """
    text = str(error)
    for pattern, reason in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    detail = lines[-1] if lines else "no reason given"
    return f"it cannot be decoded ({detail[:120]}); open the file in another program to check it"


def is_unsupported_codec(error: Exception) -> bool:
    """Return whether the error means that this build has no decoder for the file, which may be undamaged."""
    return _UNSUPPORTED_CODEC.search(str(error)) is not None


def is_over_limit_of_format(error: Exception) -> bool:
    """Return whether the error means that the file exceeds the decoder's default limits, which can be turned off."""
    return "exceeds the security limit" in str(error)


def clear_errors() -> None:
    """Clear the error buffer of libvips, so that the next error has only its own text."""
    load_vips().vips_lib.vips_error_clear()


def output_profile_option() -> str:
    """Return the name of the option that converts a thumbnail to a profile.

    Newer versions of libvips have another name for this option.
    """
    known = load_vips().Introspect.get("thumbnail_source").optional_input
    return "output_profile" if "output_profile" in known else "export_profile"
