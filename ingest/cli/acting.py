"""How commands act: options checked like a request, one action, on the database of the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ingest.operate.actions import Actions

    M = TypeVar("M", bound=BaseModel)

T = TypeVar("T")


def checked(form: type[M], **options: object) -> M:
    """Check options the way the management API checks a request.

    Raises:
        RequestRefused: one does not fit; it says which, and not what it held.
    """
    from pydantic import ValidationError

    from ingest.errors import RequestRefused
    from ingest.operate.problems import invalid

    try:
        return form.model_validate(options)
    except ValidationError as error:
        places = "; ".join(invalid("option_invalid", error).errors)
        raise RequestRefused(places, code="option_invalid", remedy="See the command's --help.") from None


def act(command: str, work: Callable[[Actions], Awaitable[T]]) -> T:
    """Run one piece of work with the rights of whoever has the database's address.

    Args:
        command: the command's name, for logs and for Postgres.
        work: gets the verbs.
    """
    import asyncio

    from ingest.foundation.clock import SystemClock
    from ingest.foundation.settings import load_settings
    from ingest.foundation.telemetry import configure_logging
    from ingest.operate.actions import operating

    settings = load_settings()
    configure_logging(settings.log, process=command)

    async def main() -> T:
        async with operating(settings, SystemClock(), application=command) as actions:
            return await work(actions)

    return asyncio.run(main())
