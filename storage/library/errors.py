"""What can go wrong with the library on disk. Errors of single images are raised by `flows.imaging`, not here."""

from storage.errors import StorageError


class LibraryError(StorageError):
    """The parent of everything that the library on disk raises."""


class UnsafePath(LibraryError):
    """A tenant, folder or file name, or what lies there on disk, would lead out of its project."""


class LibraryUnavailable(LibraryError):
    """The library root is missing, empty, not a folder or unreadable, as it is when its disk is not mounted."""


class FolderMissing(LibraryError):
    """A folder that the operation needs does not exist."""


class FolderUnreadable(LibraryError):
    """A folder exists, but could not be listed to its end; nothing may be concluded about what was not seen."""


class SourceMissing(LibraryError):
    """The file or folder to move is not there, which after a crash may mean that it has been moved already."""


class SourceChanged(LibraryError):
    """The file changed while it was being copied; it stays where it is."""


class Collision(LibraryError):
    """The target name is taken, exactly or by a name that differs only in case or Unicode form."""


class CrossesFileSystems(LibraryError):
    """A folder should be renamed onto another file system, which no single atomic step can do."""


class NotEnoughSpace(LibraryError):
    """The target file system has no room for the file."""


class CopyMismatch(LibraryError):
    """A copy read back from disk differs from its source; the source stays where it is."""


class ManifestUnreadable(LibraryError):
    """A `.project.yaml` exists, but is not a manifest that can be understood."""
