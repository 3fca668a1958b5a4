"""The doctor's checks beyond Postgres: what goes over a network, Kafka, its topics, and the relay's cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.kafka_connection import plaintext_servers
from slotwire.ingest.foundation.postgres import ADDRESS
from slotwire.ingest.foundation.postgres_address import parse_address
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.topic_admin import Severity, check_topics
from slotwire.ingest.operate.findings import Finding, asked, failed, ok
from slotwire.ingest.relay.cursor import read_cursor
from slotwire.ingest.relay.log_reader import fitting_place, read_identity


def encryption(settings: Settings, *, kafka: bool) -> Finding:
    """Say what goes over a network in the clear, or to whoever answers; that it may is a setting."""
    worries = list[str]()
    allowed = settings.database.model_copy(update={"allow_plaintext": True})
    try:
        address = parse_address(settings.database_url.get_secret_value(), setting=ADDRESS, settings=allowed)
        worries += [f"{host} of Postgres is spoken to without TLS" for host in address.plaintext_hosts]
        worries += ["sslmode=require believes whoever answers to be Postgres"] if address.trusts_anybody else []
    except SlotwireError:
        pass  # the check of Postgres says why
    if kafka:
        worries += [f"{server} of Kafka is spoken to without TLS" for server in plaintext_servers(settings.kafka)]
    if not worries:
        return ok("tls", "nothing leaves this machine in the clear")
    remedy = "Use sslmode=verify-full and SASL_SSL, unless nobody else can listen; docs/howto/run-in-production.md."
    return Finding(check="tls", state="warning", message="; ".join(worries), remedy=remedy)


async def kafka_findings(settings: Settings, *, cursor: bool) -> AsyncIterator[Finding]:
    """Reach the broker, compare the topics with the settings, and, if asked, the cursor with the log."""
    try:
        findings = await check_topics(settings.kafka)
    except SlotwireError as error:
        yield failed("kafka", error)
        return
    yield ok("kafka", "reached")
    if not findings:
        said = f"all there, {settings.kafka.partitions} partitions, in sync {settings.kafka.min_insync_replicas}"
        yield ok("topics", said)
    for found in findings:
        yield Finding(
            check=f"topic {found.topic}",
            state="failed" if found.severity is Severity.ERROR else "warning",
            message=found.message,
            remedy=found.remedy,
        )
    # A topic that is missing must not be asked for: a broker may make it of itself.
    if cursor and not any(found.severity is Severity.ERROR for found in findings):
        yield await asked("cursor", _cursor(settings))


async def calls_of_agents(settings: Settings) -> Finding:
    """Ask `control` for a call with a grant that nobody has: it answers that, if agents can reach it."""
    try:
        async with ControlClient(settings.agents.control_url) as control:
            await control.call("of the doctor", "get-scheduled-event", {})
    except RequestRefused as error:
        if error.code == "unauthenticated":
            return ok("calls", "`control` takes the calls of agents to Calendly")
        raise
    raise SlotwireError("`control` took a call without a grant", remedy="Report this defect.")


async def calls_of_mcp(settings: Settings) -> Finding:
    """Ask the same for the MCP server."""
    try:
        async with ControlClient(settings.mcp.control_url, setting="SLOTWIRE_MCP__CONTROL_URL") as control:
            await control.call_as_agent("of the doctor", "get-current-user", {})
    except RequestRefused as error:
        if error.code == "unauthenticated":
            return ok("mcp calls", "`control` takes the calls of agents of MCP to Calendly")
        raise
    raise SlotwireError("`control` took a call without a grant", remedy="Report this defect.")


async def _cursor(settings: Settings) -> Finding:
    """Say where the relay's cursor is, or why it does not fit the log."""
    log = await read_identity(settings)
    cursors = [await read_cursor(settings, shard) for shard in range(log.shards)]
    places = [await fitting_place(settings, shard, cursor, log) for shard, cursor in enumerate(cursors)]
    said = "; ".join(f"shard {place.shard}: published up to {place.position}" for place in places)
    return ok("cursor", f"fits the log, {said}")
