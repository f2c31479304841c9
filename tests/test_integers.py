"""Tests integers that a client writes with a decimal point, such as 100.0."""

import json
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from support.jobs import lines, results, upload, wait_completed
from support.stack import Start, chat

from shared.models.integers import WholeNumber


class Model(BaseModel):
    model_config = ConfigDict(strict=True)

    number: Annotated[int, Field(ge=-5, le=32_000), WholeNumber] | None = None


@pytest.mark.parametrize(
    ("text", "number"),
    [("100", 100), ("100.0", 100), ("1e2", 100), ("-0.0", 0), ("-5.0", -5), ("null", None)],
)
def test_a_whole_number_is_an_integer(text: str, number: int | None) -> None:
    found = Model.model_validate_json(f'{{"number": {text}}}').number

    assert (found, type(found)) == (number, type(number))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1.5", "int_type"),
        ("100.00001", "int_type"),
        ('"100"', "int_type"),
        ("true", "int_type"),
        ("[1]", "int_type"),
        ("NaN", "int_type"),
        ("Infinity", "int_type"),
        ("1e999", "int_type"),
        ("1e300", "less_than_equal"),
        ("32000.5", "int_type"),
        ("32001.0", "less_than_equal"),
        ("-6.0", "greater_than_equal"),
    ],
)
def test_another_number_is_refused_with_one_error(text: str, kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate_json(f'{{"number": {text}}}')

    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [
        (("number",), kind)
    ]


def test_its_schema_is_that_of_an_integer() -> None:
    schema = Model.model_json_schema()["properties"]["number"]

    assert {"type": "integer", "minimum": -5, "maximum": 32_000} in schema["anyOf"]


@pytest.mark.parametrize("path", ["/batch", "/jobs"])
async def test_a_request_may_have_max_tokens_with_a_decimal_point(stack: Start, path: str) -> None:
    deployment = await stack(workers=1)
    request = json.dumps(chat("hello", max_tokens=100)).replace("100", "100.0")
    body = request if path == "/jobs" else f'{{"requests": [{request}]}}'
    media_type = "application/x-ndjson" if path == "/jobs" else "application/json"

    answer = await deployment.api.post(path, content=body, headers={"Content-Type": media_type})
    job = await wait_completed(deployment.api, f"/jobs/{answer.json()['job_id']}")

    assert '"max_tokens": 100.0' in body
    assert job["successful"] == 1


async def test_a_parameter_may_have_a_decimal_point(stack: Start) -> None:
    deployment = await stack(workers=1)
    location = await upload(deployment.api, lines(["a", "b", "c"]))
    await wait_completed(deployment.api, location)

    async def jobs(limit: str) -> Any:
        return (await deployment.api.get("/jobs", params={"limit": limit})).status_code

    assert len(await results(deployment.api, location, limit="2.0")) == 2
    assert [await jobs("20.0"), await jobs("1.0")] == [200, 200]
    assert [await jobs("20.5"), await jobs("0.0"), await jobs("101.0")] == [422, 422, 422]
