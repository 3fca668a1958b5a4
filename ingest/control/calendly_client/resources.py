"""What all resources share: their URI, the envelope of an answer, their path, and for some the whole document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slotwire.schemas.ids import last_segment

M = TypeVar("M", bound=BaseModel)

Uri = Annotated[str, Field(min_length=1, max_length=2000)]
"""An opaque URI from Calendly, at most 2,000 characters."""


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


def path_to(collection: str, uri: str) -> str:
    """Return the path of a resource; the URI's last segment is quoted, so it stays one segment.

    Args:
        collection: such as `webhook_subscriptions`.
        uri: the resource's URI, or its last segment.
    """
    return f"/{collection}/{quote(last_segment(uri), safe='')}"
