"""What every resource of Calendly's has: an address, and where it matters the whole of what was told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slotwire.schemas.ids import last_segment

M = TypeVar("M", bound=BaseModel)

Uri = Annotated[str, Field(min_length=1, max_length=2000)]
"""An opaque address of Calendly's; 2,000 characters at the most."""


class Resource(BaseModel):
    """A resource, of which only the typed fields are kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: Uri


class RawResource(Resource):
    """A resource with everything that was told of it, in Calendly's words and shapes.

    REST and webhooks describe bookings alike, so whoever reads them by REST hands `raw` to the same reader
    that takes a webhook's payload. It holds names and addresses: neither it nor they have a text form.
    """

    raw: Mapping[str, Any] = Field(repr=False)

    @model_validator(mode="before")
    @classmethod
    def _keep(cls, told: object) -> object:
        return {**told, "raw": told} if isinstance(told, dict) else told


class ResourceAnswer(BaseModel, Generic[M]):
    """An answer that holds one resource."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    resource: M


def path_to(collection: str, uri: str) -> str:
    """Return the path of a resource; whatever its URI holds, it stays one segment.

    Args:
        collection: as `webhook_subscriptions`.
        uri: the resource's URI, or its last segment.
    """
    return f"/{collection}/{quote(last_segment(uri), safe='')}"
