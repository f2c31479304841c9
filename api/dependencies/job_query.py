"""Reads the query parameters of a submission: the options of the job, and the options of requests
in a vendor's format.
"""

from typing import Annotated

from fastapi import Depends, Query

from api.requests.formats import RequestFormat
from api.requests.vendor_requests import VendorOptions
from shared.models import MAX_DEADLINE_S, MAX_NAME, JobOptions, WebhookUrl


async def _job_options(
    deadline_s: Annotated[
        float | None,
        Query(
            gt=0,
            le=MAX_DEADLINE_S,
            description="Time limit of the job in seconds, from acceptance. Requests that have not"
            " finished by then fail with `deadline_exceeded`. Replaces the field `deadline_s` of a"
            " JSON body.",
        ),
    ] = None,
    webhook_url: Annotated[
        WebhookUrl | None,
        Query(
            description="The URL that gets a signed POST when the job has ended (Standard"
            " Webhooks). Replaces the field `webhook_url` of a JSON body."
        ),
    ] = None,
) -> JobOptions:
    return JobOptions(deadline_s=deadline_s, webhook_url=webhook_url)


async def _vendor_options(
    provider: Annotated[
        str | None,
        Query(description="The provider of all requests that are in a vendor's format."),
    ] = None,
    model: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=MAX_NAME,
            description="The model of all requests that are in a vendor's format. Replaces the"
            " model in their bodies.",
        ),
    ] = None,
    request_format: Annotated[
        RequestFormat | None,
        Query(
            alias="format",
            description="The format of the requests. Default: the first request decides.",
        ),
    ] = None,
) -> VendorOptions:
    return VendorOptions(provider, model, request_format)


JobOptionsQuery = Annotated[JobOptions, Depends(_job_options)]
VendorOptionsQuery = Annotated[VendorOptions, Depends(_vendor_options)]
