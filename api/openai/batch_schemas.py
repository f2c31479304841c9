"""Defines the objects of OpenAI's Files and Batches API.

https://platform.openai.com/docs/api-reference/files/object
https://platform.openai.com/docs/api-reference/batch/object
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.models import WebhookUrl

MAX_METADATA_PAIRS = 16
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 30 * 86_400

Purpose = Literal["batch", "assistants", "fine-tune", "vision", "user_data", "evals"]
BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]


class FileObject(BaseModel):
    """Describes an uploaded file, or the results of a batch as a file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(
        description="The size. In lists, 0 for a file of results whose size is not known yet."
    )
    created_at: int = Field(
        description="The time of the upload, or of the creation of the batch whose results the file"
        " has, in seconds since 1970."
    )
    expires_at: int | None = Field(
        description="The time at which the file will be deleted, in seconds since 1970; `null` for"
        " results of a batch that has not ended."
    )
    filename: str
    purpose: Purpose | Literal["batch_output"]
    status: Literal["processed"] = "processed"
    status_details: str | None = Field(
        default=None,
        description="The first mistake in a file of requests; `null` if there is none. A batch of a"
        " file with mistakes fails. Unknown models are checked again when the batch is created.",
    )


class FileList(BaseModel):
    """Lists a page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """Says that a file was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class BatchError(BaseModel):
    """Describes a mistake in the file of a batch."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(BaseModel):
    """Lists the first 100 mistakes in the file of a batch."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """Counts requests. After the end of a batch, `failed` counts all requests without an answer."""

    total: int
    completed: int = Field(description="The number of requests that have an answer.")
    failed: int


class InputTokensDetails(BaseModel):
    cached_tokens: int


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int


class BatchUsage(BaseModel):
    """Counts the tokens of all answers of a batch."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class Batch(BaseModel):
    """Describes a batch. Times are in seconds since 1970."""

    id: str = Field(description="`batch_` and the `job_id` of the batch.")
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = Field(
        description="The provider and model of all requests; `null` if the requests have several,"
        " or if the job was not created as a batch."
    )
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = Field(
        description="The id of the file of the answers; `null` if there are none, or until the"
        " batch has ended."
    )
    error_file_id: str | None = Field(
        description="The id of the file of the errors; `null` if there are none, or until the"
        " batch has ended."
    )
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage | None = Field(
        description="`null` until the batch has ended, and if its status is `failed`; in lists,"
        " also until the tokens have been summed."
    )
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """Lists a page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


_MetadataKey = Annotated[str, StringConstraints(max_length=64)]
_MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class ExpiresAfter(BaseModel):
    """Sets the time after which an uploaded file or the results of a batch expire."""

    model_config = ConfigDict(extra="forbid", strict=True)

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)


class NewBatch(BaseModel):
    """Holds the body of a request that creates a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_file_id: str = Field(description="The id of a file with the purpose `batch`.")
    endpoint: str = Field(
        pattern=r"^/(?:[A-Za-z0-9._-]{1,20}/){0,3}(?:chat/completions|embeddings|responses)$",
        description="The URL that every line of the file has: `/v1/chat/completions`,"
        " `/v1/embeddings` or `/v1/responses`. `/v1` may be missing or another path, as in URLs of"
        " Azure.",
    )
    completion_window: str = Field(
        pattern=r"^[0-9]{1,7}[smhd]$",
        description="The time until the batch expires: a number and `s`, `m`, `h` or `d`, from 1"
        " minute to 30 days.",
    )
    metadata: dict[_MetadataKey, _MetadataValue] | None = Field(
        default=None, max_length=MAX_METADATA_PAIRS
    )
    output_expires_after: ExpiresAfter | None = Field(
        default=None,
        description="The time, from the end of the batch, for which its results are kept. Default:"
        " `RESULT_TTL_SECONDS`.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None,
        description="The URL that gets a signed POST when the batch has ended, in the form that"
        " `webhooks.unwrap` of OpenAI's clients reads. An extension of this API.",
    )
