"""The processes of `slotwire local`, with their ports and settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from slotwire.ingest.foundation.author_environment import OF_SHIPPED
from slotwire.ingest.foundation.clock import show_ahead
from slotwire.ingest.foundation.local_stack import assignments
from slotwire.ingest.foundation.migrations import role_of
from slotwire.ingest.foundation.settings import Settings, settings_of
from slotwire.ingest.foundation.settings_base import PREFIX
from slotwire.ingest.local.children import Stdout
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.local.state import require_port
from slotwire.ingest.local.supervisor import Service
from slotwire.ingest.simulator.world import oauth_app

DEMO_AGENT = "slotwire.handlers.agents.demo:local_agent"
"""The shipped agent that prints each change of a booking."""
PARTITIONS = 4
"""Of each keyed topic: several, so that parallel work can be seen, and few, so that the start is fast."""
PORTS = {
    "serve": ("deliveries", 8080),
    "admin": ("the management API", 8081),
    "serve-health": ("the health of serve", 8082),
    "oauth": ("the pages on which customers connect", 8083),
    "mcp": ("agents by MCP", 8084),
    "simulator": ("the simulator", 8090),
    "control-health": ("the health of control", 0),
    "relay-health": ("the health of relay", 0),
    "demo-agent-health": ("the health of the demo agent", 0),
    "mcp-health": ("the health of the MCP server", 0),
}
"""The ports by name, each with its purpose and the number that the first run takes if it is free (0: any)."""
OAUTH = f"{PREFIX}OAUTH__"
"""Begins the settings of the OAuth app, which `control` alone gets, as it does the key of shipped agents' settings."""
MCP = f"{PREFIX}MCP__"
"""Begins the settings of the MCP server, which it alone gets of all processes."""
SEALED = (f"{PREFIX}VAULT__", f"{PREFIX}HTTP__HOOK_KEYS")
"""Begin the keys that the MCP server does not get."""
MCP_AGENT = "demo"
"""The agent that is registered with the MCP server of this stack."""
SIMULATOR_SEED = "slotwire"
"""The seed that `slotwire simulate serve` has by itself; the app follows from it."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
"""The variables that our processes inherit. No proxy: they connect to this machine only."""
_OF_AGENTS = tuple(
    PREFIX + name
    for name in ("KAFKA__", "AGENTS__", "OUTGOING__", "LOG__", "LOCAL__CLOCK_FILE", "PUBLIC_URL", "CALENDLY__")
)
"""The shared settings that a process of agents has, beside its database; none is a secret."""
_HEEDED = (f"{PREFIX}LOCAL__MAVEN_REPOSITORY", f"{PREFIX}LOG__LEVEL")
"""The caller's settings that `slotwire local` reads; it sets all others itself."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Addresses and keys of one local installation. The state folder stores them.

    Attributes:
        stack: its servers.
        log_level: the level of its processes' logs.
        colour: whether the demo agent's lines go to a terminal.
    """

    stack: Stack
    log_level: str = "info"
    colour: bool = False

    @property
    def public_url(self) -> str:
        """The address that receives Calendly's deliveries."""
        return self._url("serve")

    @property
    def admin_url(self) -> str:
        """The management API."""
        return self._url("admin")

    @property
    def health_url(self) -> str:
        """Liveness, readiness and metrics of `serve`."""
        return self._url("serve-health")

    @property
    def simulator_url(self) -> str:
        """The simulated Calendly."""
        return self._url("simulator")

    @property
    def mcp_url(self) -> str:
        """The endpoint of the demo's agent at the MCP server."""
        return f"{self._url('mcp')}/mcp/{MCP_AGENT}"

    @property
    def clock_file(self) -> Path:
        """The file in which the simulator shows its clock, which every process goes by."""
        return self.stack.state.path / "clock"

    def require_clock(self) -> None:
        """Make the clock's file, if there is none: processes start beside the simulator, which may be later."""
        if not self.clock_file.exists():
            show_ahead(self.clock_file, timedelta())

    def require_ports(self) -> None:
        """Choose the processes' ports, or check that those of an earlier run are free.

        Raises:
            SlotwireError: another program listens on one of them.
        """
        for name, (title, preferred) in PORTS.items():
            self.stack.state.port(name, preferred)
            require_port(self.stack.state, name, title)

    def environment(self) -> dict[str, str]:
        """Return the settings that all processes share; any `slotwire` command works on this stack with them."""
        state = self.stack.state
        return {
            "SLOTWIRE_DATABASE_URL": self.stack.runtime_url,
            "SLOTWIRE_MIGRATE__DATABASE_URL": self.stack.owner_url,
            "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": self.stack.kafka_bootstrap_servers,
            "SLOTWIRE_KAFKA__PARTITIONS": str(PARTITIONS),
            "SLOTWIRE_KAFKA__REPLICATION_FACTOR": "1",
            "SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS": "1",
            "SLOTWIRE_PUBLIC_URL": self.public_url,
            "SLOTWIRE_CALENDLY__API_URL": self.simulator_url,
            "SLOTWIRE_CALENDLY__AUTH_URL": self.simulator_url,
            "SLOTWIRE_HTTP__HOOK_KEYS": state.secret("hook-key"),
            "SLOTWIRE_VAULT__KEYS": f"local:{state.secret('vault-key')}",
            "SLOTWIRE_LOCAL__CLOCK_FILE": str(self.clock_file),
            "SLOTWIRE_LOG__LEVEL": self.log_level,
            "SLOTWIRE_HEALTH__PORT": "0",  # of processes that are started by hand: those of the stack have theirs
            "SLOTWIRE_AGENTS__CONTROL_URL": self.admin_url,
            "SLOTWIRE_ACTIONS__AGENTS": "*",
            "SLOTWIRE_CHANGES__INTERVAL_MINUTES": "1",
            "SLOTWIRE_AGENTS__ORGANIZATION_READERS": "availability-sync",
            "SLOTWIRE_AGENTS__LOG_MESSAGES": "true",
            "SLOTWIRE_OUTGOING__ALLOW_LOCAL": "true",
            OF_SHIPPED: f"local:{state.secret('agent-settings-key')}",
            f"{MCP}PORT": str(self._port("mcp")),
            f"{MCP}PUBLIC_URL": self._url("mcp"),
            f"{MCP}CONTROL_URL": self.admin_url,
            f"{MCP}TOKEN_KEYS": f"local:{state.secret('mcp-token-key')}",
            **self._oauth(),
        }

    def _oauth(self) -> dict[str, str]:
        """Return the settings of the simulator's app, for `control` and for commands."""
        app = oauth_app(SIMULATOR_SEED)
        return {
            f"{OAUTH}HOST": "127.0.0.1",
            f"{OAUTH}PORT": str(self._port("oauth")),
            f"{OAUTH}PUBLIC_URL": self._url("oauth"),
            f"{OAUTH}CLIENT_ID": app.client_id,
            f"{OAUTH}CLIENT_SECRET": app.client_secret,
            f"{OAUTH}SIGNING_KEYS": app.signing_key,
            f"{OAUTH}INTEGRATOR": "Slotwire on this machine",
        }

    def environment_file(self) -> str:
        """Return the shared settings in the form a shell reads."""
        return assignments(
            "Settings of this local stack. Load them with:  set -a; . THIS_FILE; set +a", self.environment()
        )

    def agents_file(self) -> str:
        """Return what a process needs that runs an author's code, in the same form: a role of its own, and no key."""
        shared = {name: value for name, value in self.environment().items() if name.startswith(_OF_AGENTS)}
        del shared[OF_SHIPPED]
        settings = {**shared, "SLOTWIRE_DATABASE_URL": self.stack.postgres.url(role_of("agents", "slotwire"))}
        return assignments("Settings of agents on this local stack: `slotwire agents dev` reads them.", settings)

    def settings(self) -> Settings:
        """Return the shared settings, parsed; the caller's environment plays no part."""
        return settings_of(self.environment())

    # The table of processes. `run` says what each needs before it can start.

    def simulator(self) -> Service:
        """The simulated Calendly. Its first line of output shows a token, so the output is discarded."""
        port, state_file = self._port("simulator"), self.stack.state.path / "simulator.db"
        files = ("--state-file", str(state_file), "--clock-file", str(self.clock_file))
        arguments = ("simulate", "serve", "--port", str(port), *files)
        return self._service("simulator", *arguments, ready=self.simulator_url + CLOCK, stdout="nowhere")

    def serve(self) -> Service:
        """The public endpoint for deliveries."""
        http = {"SLOTWIRE_HTTP__HOST": "127.0.0.1", "SLOTWIRE_HTTP__PORT": str(self._port("serve"))}
        return self._service("serve", "serve", health="serve-health", settings=http, role="serve")

    def control(self) -> Service:
        """The management API and the subscription manager."""
        admin = {"SLOTWIRE_ADMIN__PORT": str(self._port("admin"))}
        return self._service("control", "control", health="control-health", settings=admin, role="control")

    def relay(self) -> Service:
        """The process that writes the log and publishes it to Kafka."""
        return self._service("relay", "relay", health="relay-health", role="relay")

    def mcp(self) -> Service:
        """The MCP server."""
        return self._service("mcp", "mcp", "serve", health="mcp-health", role="mcp")

    def demo_agent(self) -> Service:
        """The agent that prints the events it receives."""
        member = {"SLOTWIRE_AGENTS__GROUP_INSTANCE_ID": "local-demo"}
        return self._service(
            "demo-agent",
            "agents",
            "run",
            DEMO_AGENT,
            health="demo-agent-health",
            settings=member,
            role="agents",
            stdout="terminal" if self.colour else "pipe",
        )

    def _service(
        self,
        name: str,
        *arguments: str,
        ready: str = "",
        health: str = "",
        settings: Mapping[str, str] | None = None,
        stdout: Stdout = "log",
        role: str = "",
    ) -> Service:
        environment = inherited(os.environ) | self.environment() | dict(settings or {})
        if role:
            environment["SLOTWIRE_DATABASE_URL"] = self.stack.postgres.url(role_of(role, "slotwire"))
            del environment["SLOTWIRE_MIGRATE__DATABASE_URL"]
        kept_out = (*((OAUTH, OF_SHIPPED) if role != "control" else ()), *(SEALED if role == "mcp" else (MCP,)))
        environment = {name: value for name, value in environment.items() if not name.startswith(kept_out)}
        if health:
            environment["SLOTWIRE_HEALTH__PORT"] = str(self._port(health))
            ready = self._url(health) + "/readyz"
        argv = (sys.executable, "-m", "slotwire.ingest.cli", *arguments)
        return Service(name, argv, environment, ready_url=ready, stdout=stdout)

    def _port(self, name: str) -> int:
        return self.stack.state.port(name, PORTS[name][1])

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._port(name)}"


CLOCK = "/simulator/clock"


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that our processes inherit: none of the caller's settings."""
    return {name: environment[name] for name in _INHERITED if name in environment}


def ignored_settings(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the caller's settings that `slotwire local` ignores, because it sets them itself."""
    return sorted(name for name in environment if name.startswith(PREFIX) and not name.startswith(_HEEDED))
