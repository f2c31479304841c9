"""Tests packed request bodies, byte order marks and the media types of uploads."""

import asyncio
import gzip
import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.jobs import NDJSON, lines, upload, wait_completed
from support.raw_http import connect, split
from support.stack import Start, chat

BATCH = json.dumps({"requests": [chat("hello")]}).encode()
JOB = lines(["one", "two"])
BOM = b"\xef\xbb\xbf"
MB = 2**20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    """Returns gzip of two members with padding, as `cat a.gz b.gz` makes it."""
    middle = len(data) // 2
    return gzip.compress(data[:middle]) + bytes(3) + gzip.compress(data[middle:]) + bytes(512)


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("identity, gzip", gzip.compress),
    ("gzip", members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity", bytes),
    ("", bytes),
]


# Packed bodies


@pytest.mark.parametrize(("encoding", "pack"), PACKED)
@pytest.mark.parametrize("start", [b"", BOM], ids=["plain", "mark"])
@pytest.mark.usefixtures("worker")
async def test_a_packed_body_is_unpacked(
    api: httpx.AsyncClient, encoding: str, pack: Callable[[bytes], bytes], start: bytes
) -> None:
    headers = {"Content-Encoding": encoding}

    batch = await api.post(
        "/batch",
        content=pack(start + BATCH),
        headers=headers | {"Content-Type": "application/json"},
    )
    location = await upload(api, pack(start + JOB), headers=headers | NDJSON)
    job = await wait_completed(api, location)

    assert batch.status_code == 200, batch.text
    assert batch.json()["responses"][0]["content"] == "echo: hello"
    assert (job["total_requests"], job["successful"]) == (2, 2)


async def test_a_body_may_arrive_byte_by_byte(stack: Start) -> None:
    deployment = await stack(workers=1)
    head = b"POST /batch HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    for encoding, body in (
        (b"gzip", gzip.compress(BOM + BATCH)),
        (b"gzip", members(BOM + BATCH)),
        (b"deflate", zlib.compress(BOM + BATCH)),
        (b"deflate", raw_deflate(BATCH)),
        (b"identity", BOM + BATCH),
    ):
        async with connect(deployment.api.base_url) as connection:
            await connection.send(head % (encoding, len(body)), *split(body, range(1, len(body))))
            answer = await connection.response()

        assert answer.status == 200, (encoding, answer)
        assert json.loads(answer.body)["successful"] == 1, encoding


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_uploads_a_file_that_gzip_has_packed(stack: Start, tmp_path: Path) -> None:
    deployment = await stack(workers=1)
    (tmp_path / "requests.ndjson").write_bytes(lines(str(n) for n in range(20_000)))
    command = (
        "gzip -k requests.ndjson && curl -sS --data-binary @requests.ndjson.gz"
        f" -H 'Content-Encoding: gzip' -H 'Content-Type: application/x-ndjson'"
        f" {deployment.api.base_url}/jobs"
    )
    process = await asyncio.create_subprocess_shell(command, cwd=tmp_path, stdout=subprocess.PIPE)
    output, _ = await process.communicate()

    assert json.loads(output)["total_requests"] == 20_000


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, br", "gzip, gzip", "gzip;q=1", "x" * 5000]
)
@pytest.mark.parametrize("path", ["/batch", "/jobs"])
async def test_another_encoding_is_refused_by_its_name(
    api: httpx.AsyncClient, encoding: str, path: str
) -> None:
    answer = await api.post(path, content=BATCH, headers={"Content-Encoding": encoding})

    assert answer.status_code == 415
    assert encoding[:100] in answer.json()["detail"]
    assert "gzip or deflate" in answer.json()["detail"]
    assert len(answer.content) < 300
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("gzip", BATCH, "not valid gzip"),
        ("gzip", gzip.compress(BATCH)[:-1], "ended early"),
        ("gzip", gzip.compress(BATCH)[:15], "ended early"),
        ("gzip", gzip.compress(BATCH)[:-8] + bytes(8), "not valid gzip"),
        ("gzip", gzip.compress(BATCH) + b"xyz", "not valid gzip"),
        ("gzip", zlib.compress(BATCH), "not valid gzip"),
        ("deflate", gzip.compress(BATCH), "not valid deflate"),
        ("deflate", zlib.compress(BATCH)[:-1], "ended early"),
        ("deflate", b"x", "ended early"),
        ("deflate", zlib.compress(BATCH) * 2, "not valid deflate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "body",  # gzip writes the time
)
@pytest.mark.parametrize("path", ["/batch", "/jobs"])
async def test_a_broken_packed_body_is_refused(
    api: httpx.AsyncClient, encoding: str, body: bytes, said: str, path: str
) -> None:
    headers = {"Content-Encoding": encoding}
    headers |= NDJSON if path == "/jobs" else {"Content-Type": "application/json"}

    answer = await api.post(path, content=body, headers=headers)

    assert answer.status_code == 400, answer.text
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_empty_packed_body_is_an_empty_body(api: httpx.AsyncClient, encoding: str) -> None:
    for body in (b"", gzip.compress(b"") if encoding == "gzip" else zlib.compress(b"")):
        answer = await api.post(
            "/jobs", content=body, headers={"Content-Encoding": encoding, **NDJSON}
        )

        assert answer.status_code == 422


# Limits


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_the_limits_apply_to_the_unpacked_body(stack: Start, coding: str) -> None:
    """The packed body is far below the limit."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    deployment = await stack(
        workers=0, MAX_BODY_BYTES="1000", MAX_JOB_BYTES="1000", MAX_LINE_BYTES="500"
    )

    async def status(path: str, body: bytes, **headers: str) -> tuple[int, str]:
        headers["Content-Encoding"] = coding
        answer = await deployment.api.post(path, content=pack(body), headers=headers)
        return answer.status_code, answer.text

    batch = BATCH + b" " * (1000 - len(BATCH))
    job = JOB + b"\n" * (1000 - len(JOB))
    line = lines(["x" * 500])
    assert (await status("/batch?mode=async", batch))[0] == 202
    assert (await status("/jobs", job, **NDJSON))[0] == 202
    for path, body, headers, expected in (
        ("/batch?mode=async", batch + b" ", {}, (413, "MAX_BODY_BYTES")),
        ("/jobs", job + b"\n", NDJSON, (413, "MAX_JOB_BYTES")),
        ("/jobs", line, NDJSON, (422, "MAX_LINE_BYTES")),
    ):
        code, text = await status(path, body, **headers)
        assert (code, expected[1] in text) == (expected[0], True), text


async def test_the_limits_apply_to_the_packed_body(stack: Start) -> None:
    """Empty members have no unpacked bytes, but they are work."""
    deployment = await stack(workers=0, MAX_JOB_BYTES="100000")

    answer = await deployment.api.post(
        "/jobs",
        content=gzip.compress(b"") * 5001,
        headers={"Content-Encoding": "gzip", **NDJSON},
    )

    assert answer.status_code == 413


def bomb(size: int, line: bytes) -> bytes:
    """Returns gzip of `size` bytes of this line, about a thousandth of the size."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    block = line * (MB // len(line))
    return b"".join([*(packer.compress(block) for _ in range(size // MB)), packer.flush()])


@pytest.mark.parametrize(
    ("path", "line"),
    [("/batch", b" " * 1024), ("/jobs", b" " * 1023 + b"\n"), ("/jobs", b" " * 1024)],
    ids=["batch", "lines", "line"],
)
async def test_a_bomb_takes_little_memory_and_stops_no_other_request(
    stack: Start, path: str, line: bytes
) -> None:
    deployment = await stack(workers=0, MAX_JOB_BYTES=str(256 * MB))
    api = psutil.Process(deployment.api_process.pid)
    body = bomb(512 * MB, line)
    before = peak = api.memory_info().rss
    headers = {"Content-Encoding": "gzip", **(NDJSON if path == "/jobs" else {})}
    sending = asyncio.create_task(deployment.api.post(path, content=body, headers=headers))
    answered = 0
    while not sending.done():
        peak = max(peak, api.memory_info().rss)
        assert (await deployment.api.get("/health")).status_code == 200
        answered += 1
    answer = await sending

    assert len(body) < 2 * MB
    assert answer.status_code in {413, 422}, answer.text  # 422: the line is too long
    assert peak - before < 128 * MB
    assert answered > 1


# Byte order marks


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (BOM + BATCH, 202),
        (BOM + b"  " + BATCH, 202),
        (BOM + BOM + BATCH, 422),
        (BATCH + BOM, 422),
        (BOM, 422),
        (BOM[:2], 422),
        (BOM[:1], 422),
        (BOM[:2] + BATCH, 422),
    ],
)
async def test_a_byte_order_mark_in_front_of_json_is_ignored(
    api: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await api.post("/batch?mode=async", content=body)

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (BOM + JOB, 202),
        (BOM + b"\r\n" + JOB, 202),
        (BOM + JOB.replace(b"\n", b"\r\n"), 202),
        (JOB + BOM + JOB, 422),
        (BOM, 422),
    ],
)
async def test_a_byte_order_mark_in_front_of_lines_is_ignored(
    api: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await api.post("/jobs", content=body, headers=NDJSON)

    assert answer.status_code == status, answer.text


# Media types

UPLOADED_AS = [
    "application/jsonl",
    "application/x-jsonlines",
    "application/jsonlines",
    "application/x-jsonl",
    "application/json-lines",
    "application/ndjson",
    "application/octet-stream",
    "text/plain",
    "Text/Plain; charset=utf-8",
]


@pytest.mark.parametrize("content_type", UPLOADED_AS)
async def test_an_upload_may_have_the_type_that_a_client_gives_to_lines(
    api: httpx.AsyncClient, content_type: str
) -> None:
    declared = {"Content-Type": content_type}
    own = str(api.base_url).rstrip("/")

    def origin(value: str) -> dict[str, Any]:
        return {"content": JOB, "headers": declared | {"Origin": value}}

    by_program = await api.post("/jobs", content=JOB, headers=declared)
    by_own_page = await api.post("/jobs", **origin(own))
    by_others = [
        await api.post("/jobs", **origin(other))
        for other in ("https://example.com", "null", "", f"{own}0", "http://[")
    ]
    batch = await api.post("/batch?mode=async", content=BATCH, headers=declared)

    assert (by_program.status_code, by_own_page.status_code) == (202, 202)
    assert by_program.json()["total_requests"] == 2
    assert [answer.status_code for answer in by_others] == [403] * 5
    assert batch.status_code == 415
