"""Tests that no other user of the machine can read or replace the files of the embedded Valkey."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import run, up

from shared.redis import embedded
from shared.redis.client import connect


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory with a short path, which also contains the directory of the sockets."""
    with tempfile.TemporaryDirectory(prefix="dd-", ignore_cleanup_errors=True) as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


def data_dir(environment: dict[str, str], mode: int) -> Path:
    path = Path(environment["DATA_DIR"])
    path.chmod(mode)
    return path


def open_to_others(directory: Path) -> list[str]:
    """Returns the files that another user may read or write, if the directory lets them in."""
    return [
        str(path)
        for path in directory.rglob("*")
        if path.is_file() and _rights(path) and not _is_below_a_private_directory(path, directory)
    ]


def _rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o077


def _is_below_a_private_directory(path: Path, top: Path) -> bool:
    inner = path.relative_to(top).parents
    return any(not _rights(top / parent) for parent in inner if parent != Path())


async def test_other_users_cannot_read_files_in_a_directory_that_they_may_list(
    directory: Path,
) -> None:
    data = directory / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "appendonlydir").mkdir(mode=0o755)  # as an earlier version has created it
    (data / "valkey.log").touch(0o644)
    (data / "notes.txt").write_text("of the user, not of the server")
    (data / "notes.txt").chmod(0o644)

    server = embedded.use(data)
    redis = connect(server.url)
    await redis.set("prompt", "secret")
    await redis.bgrewriteaof()  # type: ignore[no-untyped-call]
    await redis.aclose()
    server.release()

    assert open_to_others(data) == [str(data / "notes.txt")]
    assert _rights(data) == 0o055
    assert list((data / "appendonlydir").iterdir())


async def test_the_whole_stack_writes_only_private_files(environment: dict[str, str]) -> None:
    data = data_dir(environment, 0o755)
    async with up(environment, "--workers", "1", "--simulate"):
        assert open_to_others(data) == []


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o722])
async def test_a_directory_that_others_may_write_to_is_refused(
    environment: dict[str, str], mode: int
) -> None:
    data = data_dir(environment, mode)

    code, output = await run(environment, "up", "--port", "0")

    assert code == 1
    assert f"chmod go-w {data}" in output
    assert os.listdir(data) == []  # noqa: PTH208 — a Path would block, too


@pytest.mark.parametrize("name", ["users.lock", "keeper.lock", "valkey.log", "appendonlydir"])
def test_a_link_in_place_of_a_file_is_refused(directory: Path, name: str) -> None:
    data, target = directory / "data", directory / "target"
    data.mkdir(mode=0o700)
    target.write_text("a file of the user")
    (data / name).symlink_to(target)

    with pytest.raises(embedded.EmbeddedServerError, match=f"{name} is a link"):
        embedded.use(data)

    assert target.read_text() == "a file of the user"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_place_of_the_directory_of_sockets_is_refused(
    directory: Path,
    exists: bool,  # noqa: FBT001 — parametrized
) -> None:
    target = directory / "target"
    if exists:
        target.mkdir()
    (directory / f"orchestrator-{os.getuid()}").symlink_to(target)

    with pytest.raises(embedded.EmbeddedServerError, match=r"is a link|File exists"):
        embedded.use(directory / "data")

    assert not exists or list(target.iterdir()) == []


async def test_a_directory_of_sockets_that_others_may_use_becomes_private(directory: Path) -> None:
    sockets = directory / f"orchestrator-{os.getuid()}"
    sockets.mkdir()
    sockets.chmod(0o777)

    server = embedded.use(directory / "data")
    server.release()

    assert _rights(sockets) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another user")
@pytest.mark.parametrize("name", ["data", f"orchestrator-{os.getuid()}"])
def test_a_directory_of_another_user_is_refused(directory: Path, name: str) -> None:
    (directory / name).mkdir(mode=0o755)
    os.chown(directory / name, 12345, 12345)

    with pytest.raises(embedded.EmbeddedServerError, match="belongs to user 12345, not to you"):
        embedded.use(directory / "data")
