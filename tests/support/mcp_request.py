"""One request of MCP as it stands on the wire, of the version of July 2026."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODERN = "2026-07-28"


def wire_request(
    token: str | None, method: str, params: Mapping[str, Any] | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the headers and the body of a request; without a token it has no authorization."""
    given = dict(params or {})
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": method,
        **({} if token is None else {"Authorization": f"Bearer {token}"}),
        **({"Mcp-Name": given["name"]} if method == "tools/call" else {}),
    }
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return headers, {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **given}}
