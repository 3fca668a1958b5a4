"""What a payload's objects do with fields they do not know."""

from __future__ import annotations

import pytest

from schemas.calendly import Cancellation
from schemas.codec import encode_data
from schemas.events import ContactCreated

URI = "https://api.calendly.com/contacts/CONTACT"


@pytest.mark.parametrize("told", ["text", ["list"], None, 7])
@pytest.mark.parametrize("others", [{}, {"unknown": 1}])
def test_a_field_of_theirs_called_extra_is_kept_as_one(told: object, others: dict[str, int]) -> None:
    """Should Calendly send a field `extra` that is no object, it is kept like any unknown one, and read back so."""
    data = ContactCreated.model_validate({"uri": URI, "extra": told, **others})
    assert data.extra == {"extra": told, **others}
    assert ContactCreated.model_validate_json(encode_data(data)) == data


def test_an_object_called_extra_is_ours() -> None:
    """What we wrote under `extra` stays there when it is read, beside what is unknown now."""
    data = ContactCreated.model_validate({"uri": URI, "extra": {"kept": 1}, "unknown": 2})
    assert data.extra == {"kept": 1, "unknown": 2}


def test_what_is_known_needs_no_extra() -> None:
    """Without unknown fields nothing is written under `extra`, and what is no object is refused, not taken apart."""
    assert Cancellation.model_validate({"reason": ""}).model_dump(exclude_unset=True) == {"reason": ""}
    with pytest.raises(ValueError, match="valid dictionary or instance of Cancellation"):
        Cancellation.model_validate("reason")
