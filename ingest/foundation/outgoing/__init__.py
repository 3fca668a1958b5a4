"""Requests to addresses that somebody else names, such as the receiver of a webhook.

Such an address may be chosen to reach what only this machine can reach. So nothing but this package connects to one:
it looks the name up itself, judges every address that it means, and connects to exactly those, with the certificate
checked for the name.

target      what is asked of the URL (pure)
addresses   which addresses may be connected to (pure)
connections looks up, judges, connects; the one file that knows the client library
turns       how many requests at once, and in a second, to one destination
client      Outgoing: a POST with all of this, counted
retries     after which answers to ask again (pure)
signing     signatures as Standard Webhooks has them (pure)
"""

from __future__ import annotations

from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing.client import Outgoing
from slotwire.ingest.foundation.outgoing.connections import Answer

__all__ = ["Answer", "Outgoing", "OutgoingFailed", "OutgoingRefused"]
