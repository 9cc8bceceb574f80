"""Lists folders. The errors say whether a folder is missing, or could not be listed completely."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.library.errors import FolderMissing, FolderUnreadable


@contextmanager
def listing(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a folder: the block gets an iterator of the folder's entries, in the disk's order.

    Raises:
        FolderMissing, FolderUnreadable: see `reading`.
    """
    with reading(folder), os.scandir(folder) as entries:
        yield entries


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn the system's errors in a block that reads a folder into errors that name the folder.

    Raises:
        FolderMissing: the folder does not exist.
        FolderUnreadable: the folder could not be listed completely; files that were not listed may still exist.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise missing_folder(folder) from error
    except OSError as error:
        raise FolderUnreadable(
            f"Folder {folder} cannot be listed completely ({error.strerror}). Check the disk and permissions."
        ) from error


def missing_folder(folder: Path) -> FolderMissing:
    """Return the error for a folder that does not exist."""
    return FolderMissing(f"Folder {folder} does not exist. Mount its disk, or create the folder.")
