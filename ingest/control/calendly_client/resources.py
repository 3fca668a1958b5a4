"""What all resources share: their URI, the envelope of an answer, their path, and for some the whole document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slotwire.ingest.errors import CalendlyError, CalendlyProblem

M = TypeVar("M", bound=BaseModel)

ORIGIN = "https://api.calendly.com"
"""How the URI of every resource begins, whatever `SLOTWIRE_CALENDLY__API_URL` is."""
MAX_URI = 2_000
"""Characters of a URI."""
Uri = Annotated[str, Field(min_length=1, max_length=MAX_URI)]
"""An opaque URI from Calendly."""
_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Resource(BaseModel):
    """A resource; only the typed fields are read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Uri


class RawResource(Resource):
    """A resource with its whole document, as Calendly sent it.

    REST and webhooks describe bookings alike, so the parser of webhook payloads also takes `raw`. It contains personal
    data, so it is left out of the text form.
    """

    raw: Mapping[str, Any] = Field(repr=False)

    @model_validator(mode="before")
    @classmethod
    def _with_raw(cls, document: object) -> object:
        return {**document, "raw": document} if isinstance(document, dict) else document


class ResourceAnswer(BaseModel, Generic[M]):
    """The envelope of an answer with one resource."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    resource: M


def path_to(collection: str, uri: str, inner: str = "") -> str:
    """Return the path of a resource: what its URI says after Calendly's address, if it is nothing else than that.

    A URI may come from outside, and a call to its path carries a token. So every character of it is checked: another
    host, a user, a query, dots, percent signs, backslashes or an empty segment are refused, and nothing is repaired.

    Args:
        collection: such as `webhook_subscriptions`.
        uri: the resource's URI, `https://api.calendly.com/{collection}/{id}`.
        inner: the collection inside the resource, where the URI is that of an item in it: `invitees`.

    Raises:
        CalendlyError: this is no such URI (`unexpected`); nothing is asked.
    """
    names = (collection, inner) if inner else (collection,)
    segments = uri.removeprefix(f"{ORIGIN}/").split("/")
    ids = segments[1::2]
    if (
        len(uri) > MAX_URI
        or not uri.startswith(f"{ORIGIN}/")
        or tuple(segments[::2]) != names
        or len(ids) != len(names)
        or not all(map(_ID.fullmatch, ids))
    ):
        raise CalendlyError(
            f"this is not a URI of Calendly's {inner or collection}",
            problem=CalendlyProblem.UNEXPECTED,
            remedy=f"The form is {ORIGIN}/{'/'.join(f'{name}/…' for name in names)}.",
        )
    return f"/{'/'.join(segments)}"
