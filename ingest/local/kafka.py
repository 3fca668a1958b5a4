"""A real Apache Kafka broker: one KRaft node, with broker and controller in one Java process."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import struct
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.local_stack import cache_dir
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.class_data import ClassData
from slotwire.ingest.local.jars import Jar, Report, fetch_jars, kafka_version
from slotwire.ingest.local.java import Java, find_java
from slotwire.ingest.local.server import EmbeddedServer
from slotwire.ingest.local.state import require_port

FORMAT_SECONDS = 60.0
_JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a short-lived broker: the fast compiler only
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # log4j-core is not on the class path; slf4j-simple writes the few lines that matter to the log.
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A broker killed by `kill -9` may register again only after its old session ended: 3 s, not 9.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": "16777216",  # the default is half of our heap
}


@dataclass
class EmbeddedKafka(EmbeddedServer):
    """One broker with its data in a state folder.

    Attributes:
        mirror: the address of a Maven repository to fetch the jars from; None takes the default.
        report: called with a line about each step of the download.
        jars: the broker's jars; None takes the pinned ones.
    """

    mirror: str | None = None
    report: Report = print
    jars: Sequence[Jar] | None = None
    _class_data: ClassData | None = field(default=None, init=False)

    name = "Kafka"
    product = "Kafka"
    key = "kafka"
    compatible_parts = 2  # the metadata format moves with the minor version, and only upwards
    stop_steps = ((signal.SIGTERM, 2.0),)

    @property
    def bootstrap_servers(self) -> str:
        """Its address, as clients want it."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Download the jars if they are missing, format a new data folder, start the broker, wait until it answers.

        Raises:
            SlotwireError: no jars, no Java, data of another version, a port in use, a full disk, or the broker fails.
        """
        version = kafka_version(self.jars)
        home = self.state.path / "kafka"
        self._require_version(home / "VERSION", version)
        java = find_java()
        library = cache_dir() / f"kafka-{version}"
        jars = await fetch_jars(library, mirror=self.mirror, report=self.report, jars=self.jars)
        home.mkdir(mode=0o700, exist_ok=True)
        scratch = home / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)  # a killed broker leaves the native libraries it unpacked
        scratch.mkdir(mode=0o700)
        require_port(self.state, "kafka", "Kafka")
        require_port(self.state, "kafka-controller", "Kafka's controller")
        self._write_settings(home)
        if not (home / "VERSION").exists():
            await self._format(java, jars, home, version)
        self._class_data = ClassData(library, java, _class_path(jars))
        self._started(self._spawn("Kafka", java, jars, home, ["kafka.Kafka", home / "server.properties"]))
        await self._first_answer(self._answers)
        self._class_data.improve(home / "classes.txt", self.state.log_file("kafka-class-data"))

    async def _end(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        if self._class_data is not None:
            await self._class_data.stop()
        await super()._end(steps)

    def _write_settings(self, home: Path) -> None:
        """Write server.properties, at every start, so that it has the current ports and settings."""
        controller = f"127.0.0.1:{self.state.port('kafka-controller')}"
        settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "log.dirs": _escaped(home / "data"),
            **self.settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (home / "server.properties").write_text(text, "utf-8")

    async def _format(self, java: Java, jars: Sequence[Path], home: Path, version: str) -> None:
        """Create the data folder with Kafka's tool, after removing what an interrupted attempt left."""
        shutil.rmtree(home / "data", ignore_errors=True)
        options = ("-t", new_cluster_id(), "-c", home / "server.properties")
        command = ("kafka.tools.StorageTool", "format", *options)
        child = self._spawn("Kafka's formatting", java, jars, home, command)
        await self._run_tool(child, FORMAT_SECONDS, "Kafka's data folder could not be created")
        mark = home / "VERSION.part"
        mark.write_text(version + "\n")
        mark.rename(home / "VERSION")

    def _spawn(self, name: str, java: Java, jars: Sequence[Path], home: Path, command: Sequence[str | Path]) -> Child:
        class_data = self._class_data.options(home / "classes.txt") if self._class_data else ()
        return Child.spawn(
            name,
            [
                java.program, *_JVM_OPTIONS, *class_data, f"-Djava.io.tmpdir={home / 'tmp'}",
                "-cp", _class_path(jars), *command,
            ],
            log=self.state.log_file(self.key),
            environment={"LANG": "C.UTF-8", "TZ": "UTC"},
        )  # fmt: skip

    async def _answers(self) -> bool | None:
        """Send a request: a broker that listens may still be unable to answer."""
        return await answers(self.port) or None

    def _reason(self, output: Sequence[str]) -> str | None:
        signs = ("Exception", "ERROR", "rror:")
        return next((line for line in output if any(sign in line for sign in signs)), None)


async def answers(port: int, seconds: float = 2.0) -> bool:
    """Return whether a broker on a loopback port answers ApiVersions (Kafka protocol, API key 18, version 0)."""
    client = b"slotwire"
    request = struct.pack(f">hhih{len(client)}s", 18, 0, 1, len(client), client)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(struct.pack(">i", len(request)) + request)
                length, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, EOFError):
        return False
    return bool(length > 6 and correlation == 1 and error == 0)


def new_cluster_id() -> str:
    """Return a new id in Kafka's form, 16 bytes in base64url, that does not begin with `-` like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _class_path(jars: Sequence[Path]) -> str:
    return os.pathsep.join(os.fspath(jar) for jar in jars)


def _escaped(path: Path) -> str:
    """Escape a path for a Java properties file, which is read as Latin-1. `log.dirs` is split at commas."""
    text = os.fspath(path)
    if "," in text:
        raise SlotwireError(
            f"Kafka cannot store data in {path}: the name has a comma", remedy="Name another folder with --state-dir."
        )
    units = struct.iter_unpack(">H", text.replace("\\", "\\\\").encode("utf-16-be"))
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for (unit,) in units)
