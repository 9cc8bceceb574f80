"""Errors of the library on disk. `flows.imaging` has the errors of single images."""

from storage.errors import StorageError


class LibraryError(StorageError):
    """The parent of all errors of the library on disk."""


class UnsafePath(LibraryError):
    """The name of a tenant, folder or file is not safe, or an entry on disk is a symlink or of an unexpected kind."""


class LibraryUnavailable(LibraryError):
    """The library root or a tenant's folder is missing, empty or unreadable. Often its disk is not mounted."""


class FolderMissing(LibraryError):
    """A folder that the operation needs does not exist."""


class FolderUnreadable(LibraryError):
    """A folder exists, but could not be listed completely. Files that are not in the listing may still exist."""


class SourceMissing(LibraryError):
    """The file or folder to move does not exist. After a crash, it may have been moved already."""


class SourceChanged(LibraryError):
    """The file changed while it was being copied; it stays where it is."""


class Collision(LibraryError):
    """The target name is taken, exactly or by a name that differs only in case or Unicode form.

    A file system that ignores case may also refuse to change only the case of a name.
    """


class CrossesFileSystems(LibraryError):
    """A folder cannot be renamed to another file system, or a file system is mounted at the folder or in it."""


class NotEnoughSpace(LibraryError):
    """The target file system has too little free space for the file."""


class CopyMismatch(LibraryError):
    """A copy differs from its source when it is read back; the source stays where it is."""


class ManifestUnreadable(LibraryError):
    """A `.project.yaml` exists, but cannot be read or is not a valid manifest."""
