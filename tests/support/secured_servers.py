"""Postgres with TLS, and Kafka with TLS, SCRAM and ACLs, each beside the stack of the run.

Their certificates are of an authority that nobody else trusts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.local.children import Child
from slotwire.ingest.local.folders import unprivileged_account
from slotwire.ingest.local.java import Java
from slotwire.ingest.local.kafka import EmbeddedKafka
from slotwire.ingest.local.postgres import SUPERUSER
from slotwire.ingest.local.state import StateFolder
from tests.support.certificates import Authority
from tests.support.children import free_port
from tools.drills import program

USER, PASSWORD = "slotwire", "a-password-of-tests"
_HBA = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def _authorities(folder: Path) -> tuple[Authority, Path, Path]:
    """Make an authority and a strange one; return the first, and the files of both."""
    authority, ours, strangers = Authority(), folder / "ca.pem", folder / "stranger.pem"
    ours.write_text(authority.pem, encoding="ascii")
    strangers.write_text(Authority("stranger.example.com").pem, encoding="ascii")
    return authority, ours, strangers


@dataclass(frozen=True)
class SecuredPostgres:
    """The system's Postgres, which lets nobody in without TLS; its certificate is for `localhost` only.

    Attributes:
        port: where it listens.
        authority: the file of who signed its certificate.
        stranger: the file of another authority.
    """

    port: int
    authority: Path
    stranger: Path

    def url(self, role: str = SUPERUSER, database: str = "postgres", *, host: str = "localhost") -> str:
        """Return an address for a role; every role has the same password."""
        return f"postgresql://{role}:{PASSWORD}@{host}:{self.port}/{database}"


@contextmanager
def secured_postgres() -> Iterator[SecuredPostgres]:
    """Run the system's Postgres with TLS while the block runs: the embedded one is built without."""
    with _folder() as folder:
        authority, ours, strangers = _authorities(folder)
        certificate, key = authority.issue("server", host="localhost").write(folder, "server")
        (folder / "hba.conf").write_text(_HBA)
        (folder / "password").write_text(PASSWORD)
        account = unprivileged_account()
        for path in (certificate, key, folder / "hba.conf", folder / "password"):
            path.chmod(0o600)
            if account is not None:
                os.chown(path, account.uid, account.gid)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        programs, port = Path(program("initdb")).parent, free_port()
        settings: dict[str, object] = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
            "hba_file": folder / "hba.conf",
        }
        options: list[str] = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        make: list[str | Path] = [
            "-D",
            folder / "data",
            "-U",
            SUPERUSER,
            "--pwfile",
            folder / "password",
            "-A",
            "scram-sha-256",
        ]
        environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        made = Child.spawn(
            "initdb",
            [programs / "initdb", *make, "-A", "scram-sha-256"],
            log=folder / "log",
            environment=environment,
            account=account,
        )
        assert made.process.wait() == 0, (folder / "log").read_text()
        command: list[str | Path] = [programs / "postgres", "-D", folder / "data", *options]
        child = Child.spawn("Postgres", command, log=folder / "log", environment=environment, account=account)
        try:
            yield SecuredPostgres(port, ours, strangers)
        finally:
            child.process.send_signal(signal.SIGQUIT)
            child.process.wait()


@dataclass(frozen=True)
class SecuredKafka:
    """A broker with one port for each protocol. `USER` has a password for SCRAM-SHA-512, and no rights at all.

    Attributes:
        ports: by security protocol.
        authority: the file of who signed its certificate, which is for 127.0.0.1.
        stranger: the file of another authority.
    """

    ports: dict[str, int]
    authority: Path
    stranger: Path


class _ScramKafka(EmbeddedKafka):
    """Adds a user when the broker's folder is made: SCRAM passwords are part of the broker's data."""

    def _spawn(self, name: str, java: Java, jars: Sequence[Path], home: Path, command: Sequence[str | Path]) -> Child:
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        more = ("--add-scram", scram) if "format" in command else ()
        return super()._spawn(name, java, jars, home, [*command, *more])


@contextmanager
def secured_kafka() -> Iterator[SecuredKafka]:
    """Run Kafka with TLS, SCRAM and ACLs while the block runs."""
    with _folder() as folder, StateFolder.claim(folder / "state") as state, _runner() as runner:
        authority, ours, strangers = _authorities(folder)
        certificate, key = authority.issue("broker", address="127.0.0.1").write(folder, "broker")
        store = folder / "broker.pem"
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        ports = {"PLAINTEXT": state.port("kafka"), "SSL": free_port(), "SASL_SSL": free_port()}
        listeners = ",".join(f"{protocol}://127.0.0.1:{port}" for protocol, port in ports.items())
        settings = {
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{state.port('kafka-controller')}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": _SCRAM,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        broker = _ScramKafka(state, settings, report=lambda _: None)
        runner.run(broker.start())
        try:
            yield SecuredKafka(ports, ours, strangers)
        finally:
            runner.run(broker.kill())


@contextmanager
def _runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        yield runner


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="slotwire-"))
    folder.chmod(0o711)  # the servers' account passes through it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
