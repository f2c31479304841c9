"""Defines the exceptions for a file that is not stored, or not found.

FileRejected
├── StorageFull   the owner would have too many files, or too many bytes of files
└── FileExpired   the upload was too slow, so its first blocks have expired
FileNotFound
"""


class FileRejected(Exception):
    """The file was not stored."""


class StorageFull(FileRejected):
    """The owner would have more than `max_bytes` of files, or more than `MAX_FILES` files."""


class FileExpired(FileRejected):
    """The first blocks of the upload expired before the last blocks arrived."""


class FileNotFound(Exception):
    """The owner has no file with this id, or the file has expired or was deleted."""

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id
