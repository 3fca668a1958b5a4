"""Calendly's error answers. Source: docs/reference/calendly.md, "Webhook subscriptions" and "REST"."""

from __future__ import annotations

from slotwire.ingest.simulator.model import Json


class SimulatedRefusal(Exception):
    """A request that Calendly would refuse.

    Attributes:
        status: the HTTP status.
        body: `{title, message, details?, required_scopes?}`.
    """

    def __init__(self, status: int, title: str, message: str, **more: object) -> None:
        super().__init__(f"{status} {title}: {message}")
        self.status = status
        self.body: Json = {"title": title, "message": message, **more}


def invalid(*details: tuple[str, str]) -> SimulatedRefusal:
    """Return a 400 with pairs of a parameter and what is wrong with it."""
    found = [{"parameter": parameter, "message": message} for parameter, message in details]
    return SimulatedRefusal(400, "Invalid Argument", "The supplied parameters are invalid.", details=found)


def unauthenticated(why: str) -> SimulatedRefusal:
    """Return a 401; `why` is `is invalid`, `expired` or `was revoked`."""
    return SimulatedRefusal(401, "Unauthenticated", f"The access token {why}")


def forbidden(message: str = "You do not have permission to access this resource.") -> SimulatedRefusal:
    """Return a 403."""
    return SimulatedRefusal(403, "Permission Denied", message)


def lacks_scope(*scopes: str) -> SimulatedRefusal:
    """Return the 403 for missing scopes. Sources differ on its title: clients should look for `required_scopes`."""
    message = "This operation requires the scopes listed in the 'required_scopes' array."
    return SimulatedRefusal(403, "Insufficient scope", message, required_scopes=list(scopes))


def not_found() -> SimulatedRefusal:
    """Return a 404."""
    return SimulatedRefusal(404, "Resource Not Found", "The server could not find the requested resource.")
