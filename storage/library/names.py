"""Names of tenants, folders and photos: which are safe, which are the same, and how to make a safe one.

Not for paths: those are built from checked names in `storage.library.paths`.
"""

import os
import unicodedata
from typing import Final

from storage.library.errors import UnsafePath

#: Bytes in UTF-8 that Linux, macOS and the usual exchange file systems allow for one name.
MAX_NAME_BYTES: Final = 255
#: Bytes for a folder name that we make: leaves room for suffixes, and for path limits of other systems.
MAX_FOLDER_NAME_BYTES: Final = 120

# The backslash is no separator on POSIX, but such a library may be served to or moved to a system where it is.
_SEPARATORS: Final = frozenset("/\\")
_CONTROL_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp"})
# Bidirectional overrides make a name look like another one; joiners stay, since emoji and many scripts need them.
_INVISIBLE: Final = frozenset("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def name_key(name: str) -> str:
    """The comparison key of a name: two names with the same key count as the same name.

    Names that differ only in case or in Unicode form are one name on some file systems, so they may never stand side
    by side in a folder.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def has_control_characters(name: str) -> bool:
    """Whether a name holds line breaks or other characters that would garble a log, a list or a terminal."""
    return not name.isprintable() and any(unicodedata.category(character) in _CONTROL_CATEGORIES for character in name)


def is_decodable(name: str) -> bool:
    """Whether a name from the disk is valid UTF-8, so that SQL and JSON can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """The name as it can be shown: unchanged where that is safe, else as an escaped Python literal."""
    if is_decodable(name) and not has_control_characters(name):
        return name
    return ascii(name)


def unsafe_reason(name: str) -> str | None:
    """Why this cannot be the name of a tenant, a folder or a photo file, or None where it can."""
    if not name:
        return "it is empty"
    if name in {os.curdir, os.pardir}:
        return "it points to a folder"
    if "\0" in name:
        return "it contains NUL"
    if not _SEPARATORS.isdisjoint(name):
        return "it contains a path separator"
    if name.startswith("."):
        return "it is hidden (begins with a dot)"
    if not is_decodable(name):
        return "it is not valid Unicode"
    if has_control_characters(name):
        return "it contains control characters"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    return None


def check_name(name: str, *, what: str) -> str:
    """Return the name unchanged where it is safe as one component of a path.

    Args:
        name: the name, as it came from SQL, a payload or a user.
        what: what the name is of, for the message, such as "tenant id".

    Raises:
        UnsafePath: the name is empty, hidden, too long, or has separators, control characters or invalid Unicode.
    """
    reason = unsafe_reason(name)
    if reason is not None:
        shown = printable(name) if len(name) <= 80 else printable(name[:77]) + "…"
        raise UnsafePath(f"{what} “{shown}” cannot be used as a file name: {reason}. Rename it.")
    return name


def cut_to_bytes(name: str, max_bytes: int) -> str:
    """The longest beginning of a name that fits into so many bytes of UTF-8, never half a character."""
    encoded = name.encode()
    if len(encoded) <= max_bytes:
        return name
    return encoded[:max_bytes].decode(errors="ignore")


def sanitise_folder_name(name: str, *, fallback: str = "project") -> str:
    """Make a folder name out of any text, such as a project's name as a user typed it.

    The result is in Unicode NFC, has no separators, control characters, leading dots, trailing dots or spaces, at
    most `MAX_FOLDER_NAME_BYTES` bytes and is never empty. Sanitising twice changes nothing more.

    Args:
        name: any text.
        fallback: the result where nothing of the text can stay; itself a safe name.
    """
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", name):
        if character in _SEPARATORS:
            kept.append("-")
        elif character.isspace():
            kept.append(" ")
        elif unicodedata.category(character) in _CONTROL_CATEGORIES or character in _INVISIBLE:
            continue
        elif is_decodable(character):
            kept.append(character)
    # Dropping characters can bring others together that compose, and cutting can uncover dots and spaces.
    whole = unicodedata.normalize("NFC", " ".join("".join(kept).split())).lstrip(". ")
    return cut_to_bytes(whole, MAX_FOLDER_NAME_BYTES).rstrip(". ") or fallback
