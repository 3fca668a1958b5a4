"""For HTTP clients of the tests: everything is plain HTTP on this machine, and reading certificates takes 25 ms."""

from __future__ import annotations

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""An `httpx` client's `verify` that reads no certificate."""
