"""Checks names of tenants, folders and photos, compares them, and makes safe names from any text.

`storage.library.paths` builds paths from checked names.
"""

import os
import unicodedata
from typing import Final

from storage.library.errors import UnsafePath

#: The maximum length of a file name on Linux, macOS and usual file systems of memory cards, in bytes of UTF-8.
MAX_NAME_BYTES: Final = 255
#: The maximum length of folder names that we make, in bytes of UTF-8. This length leaves room for suffixes, and for the
#: path limits of other systems.
MAX_FOLDER_NAME_BYTES: Final = 120

#: What comes between a base name that is taken and the number of the new name.
DUPLICATE: Final = "_duplicate"

# The backslash is no separator on POSIX, but the library may be shared with Windows or moved there, so names must not
# contain it.
_SEPARATORS: Final = frozenset("/\\")
_CONTROL_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp"})
# Invisible characters make two names look the same. Joiners are allowed: emoji and many scripts need them.
_INVISIBLE: Final = frozenset("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def name_key(name: str) -> str:
    """Return the comparison key of a name. Two names with the same key count as the same name.

    Names that differ only in case or Unicode form have the same key, because on some file systems they name one file.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def has_control_characters(name: str) -> bool:
    """Return whether a name has line breaks or other characters that would garble a log, a list or a terminal."""
    return not name.isprintable() and any(unicodedata.category(character) in _CONTROL_CATEGORIES for character in name)


def is_decodable(name: str) -> bool:
    """Return whether a name from the disk is valid UTF-8, so that SQL and JSON can store it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """Return the name for display: unchanged if it is safe to print, else as an escaped Python literal."""
    if is_decodable(name) and not has_control_characters(name):
        return name
    return ascii(name)


def unsafe_reason(name: str) -> str | None:
    """Return the reason why this text cannot be the name of a tenant, a folder or a photo file; None if it can."""
    if not name:
        return "it is empty"
    if name in {os.curdir, os.pardir}:
        return "it means the folder itself or the folder above"
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
    """Return the name unchanged if it is safe as one component of a path.

    Messages begin with `what`, the kind of name, such as "Tenant id".

    Raises:
        UnsafePath: the name is empty, hidden, too long, or has separators, control characters or invalid Unicode.
    """
    reason = unsafe_reason(name)
    if reason is not None:
        shown = printable(name) if len(name) <= 80 else printable(name[:77]) + "…"
        raise UnsafePath(f"{what} “{shown}” cannot be used as a file name: {reason}. Give another name.")
    return name


def cut_to_bytes(name: str, max_bytes: int) -> str:
    """Return as many whole characters from the beginning of a name as fit in `max_bytes` of UTF-8."""
    encoded = name.encode()
    if len(encoded) <= max_bytes:
        return name
    return encoded[:max_bytes].decode(errors="ignore")


def sanitize_folder_name(name: str, *, fallback: str = "project") -> str:
    """Make a folder name from any text, such as a project's name that a user typed.

    The result is in Unicode NFC, is not empty and has at most `MAX_FOLDER_NAME_BYTES` bytes. It has no separators,
    control characters, leading dots, or trailing dots or spaces, and no invisible characters other than joiners. A
    second call changes nothing. If the text has no allowed character, the result is `fallback`.
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
    # NFC is applied again, because it may combine the neighbors of a removed character. A cut may leave dots or spaces
    # at the end, so these are removed last.
    whole = unicodedata.normalize("NFC", " ".join("".join(kept).split())).lstrip(". ")
    return cut_to_bytes(whole, MAX_FOLDER_NAME_BYTES).rstrip(". ") or fallback
