"""Asks `slotwire control` to call Calendly, with a grant; errors of that request are caught here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from slotwire.ingest.foundation.errors import ConfigurationError, ControlUnavailable, RequestRefused

CALLS = "/internal/calls"
"""Where `control` takes such calls, on the port of the management API."""
ACTS = "/internal/actions"
"""Where it takes actions."""
MCP_CALLS = "/internal/mcp/calls"
"""Where it takes calls of agents that reach us by MCP."""
MCP_ACTS = "/internal/mcp/actions"
"""Where it takes their actions."""
ANSWER_SECONDS = 100.0
"""Longer than `control` takes to give up."""
CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 20
_AWAY = frozenset({429, 500, 502, 503, 504})
"""Statuses after which another try may succeed."""


class ControlClient:
    """A client of `control`'s internal route; it connects with the first call."""

    def __init__(self, url: str, *, setting: str = "SLOTWIRE_AGENTS__CONTROL_URL") -> None:
        """Take the address.

        Args:
            url: of the management API; empty where there is none for agents.
            setting: the variable that it comes from.
        """
        self._url = url.rstrip("/")
        self._setting = setting
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Return itself; nothing is opened yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        if self._http is not None:
            await self._http.aclose()

    async def call(self, grant: str, operation: str, values: Mapping[str, Sequence[str]]) -> Any:
        """Have a call made; see `_post`."""
        body = {"operation": operation, "values": {name: list(each) for name, each in values.items()}}
        return await self._post(CALLS, grant, body)

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Have something done, once for agent, event and name; see `_post`."""
        return await self._post(ACTS, grant, {"name": name, "action": dict(action)})

    async def call_as_agent(
        self,
        grant: str,
        operation: str,
        values: Mapping[str, Sequence[str]],
        *,
        body: Mapping[str, Any] | None = None,
        limit: int | None = None,
        page: str | None = None,
    ) -> Any:
        """Have a call made for an agent that reached us by MCP; see `_post`."""
        asked: dict[str, Any] = {"operation": operation, "values": {name: list(each) for name, each in values.items()}}
        more = {"body": body, "limit": limit, "page": page}
        return await self._post(
            MCP_CALLS, grant, asked | {name: each for name, each in more.items() if each is not None}
        )

    async def act_as_agent(self, grant: str, key: str, action: Mapping[str, Any]) -> Any:
        """Have something done for such an agent, once for its key; see `_post`."""
        return await self._post(MCP_ACTS, grant, {"name": key, "action": dict(action)})

    async def _post(self, path: str, grant: str, body: Mapping[str, Any]) -> Any:
        """Ask, and return what came of it.

        Raises:
            RequestRefused: it is not granted, or Calendly refused it.
            ControlUnavailable: `control` or Calendly is away.
            ConfigurationError: no address is set.
        """
        if not self._url:
            raise ConfigurationError(
                "agents have no way to Calendly here",
                remedy=f"Set {self._setting} to the management API of `slotwire control`.",
            )
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
                trust_env=False,
            )
        try:
            response = await self._http.post(
                f"{self._url}{path}", json=body, headers={"Authorization": f"Bearer {grant}"}
            )
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ControlUnavailable(
                "`slotwire control` does not answer",
                remedy=f"Check that it runs, and {self._setting}.",
            ) from error
        if response.is_success and isinstance(answer, dict):
            return answer.get("answer")
        problem = answer if isinstance(answer, dict) else {}
        message, remedy = str(problem.get("detail", "the call failed")), str(problem.get("remedy") or "")
        if places := problem.get("errors"):  # fields by name, without their values
            message, remedy = f"{message}: {'; '.join(map(str, places))}", "Correct these fields."
        if response.status_code in _AWAY:
            raise ControlUnavailable(message, remedy=remedy)
        raise RequestRefused(message, code=str(problem.get("code", "refused")), remedy=remedy)
