"""Presents an uploaded file as an object of OpenAI's API."""

from typing import cast

from api.openai.batch_schemas import FileObject, Purpose
from shared.files.stored_file import StoredFile


def described(file: StoredFile) -> FileObject:
    info = file.info
    details = None
    if info.mistakes:
        first = info.mistakes[0]
        place = f"line {first['line']}: " if first["line"] else ""
        details = f"{place}{first['message']}"
    return FileObject(
        id=file.id,
        bytes=info.size,
        created_at=int(file.created_ms / 1000),
        expires_at=int(file.expires_ms / 1000),
        filename=info.filename,
        purpose=cast("Purpose", info.purpose),
        status_details=details,
    )
