"""What the settings of all shipped agents share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, ValidationInfo, field_validator

from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingRefused
from slotwire.ingest.foundation.outgoing.addresses import AddressRules, is_address
from slotwire.ingest.foundation.outgoing.signing import webhook_secret
from slotwire.ingest.foundation.outgoing.target import read_target
from slotwire.ingest.foundation.outgoing_settings import PRIVATE

ALLOW_LOCAL = "allow_local"
"""In the context of a validation: whether an address on this machine may be named."""


def can_be_asked(value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    """Check the address of a receiver, if there is one."""
    if value is None:
        return None
    local = bool((info.context or {}).get(ALLOW_LOCAL))
    try:
        target = read_target(value.get_secret_value(), local=local)
    except OutgoingRefused as error:
        raise ValueError(error.message) from None
    # What a name means is judged by who connects to it, and so is which private networks are allowed.
    why = AddressRules(PRIVATE, local=local).why_not(target.host) if is_address(target.host) else None
    if why is not None:
        raise ValueError(f"the receiver's address is {why}")
    return value


def can_sign(value: SecretStr | None) -> SecretStr | None:
    """Check a secret that webhooks are signed with, if there is one."""
    if value is not None:
        webhook_secret(value.get_secret_value())
    return value


def _said(message: str) -> str:
    """Return what is wrong without how the library names it."""
    return message.removeprefix("Value error, ")


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value as JSON has it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


class ShippedSettings(BaseModel):
    """The settings of one agent for one organization, or for all that have none of their own.

    A field of the type `SecretStr` is a secret: it is sealed, and never shown again.

    Attributes:
        goes_with: for a secret, the fields that say where it goes. Whoever changes one of them must give the secret
            again: else who may set, and may not read, could have it sent to themselves.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True, str_max_length=4_096
    )
    goes_with: ClassVar[Mapping[str, frozenset[str]]] = {}

    dry_run: bool = False
    """Only say in the log what would be done, and do nothing outside."""

    @field_validator("*", mode="before")
    @classmethod
    def _texts_can_be_kept(cls, value: object) -> object:
        if any("\x00" in each for each in _texts(value)):
            raise ValueError("must not have a character of zero")
        return value

    @classmethod
    def secret_names(cls) -> frozenset[str]:
        """Return the fields that are secrets."""
        return frozenset(
            name
            for name, field in cls.model_fields.items()
            if SecretStr in (field.annotation, *get_args(field.annotation))
        )

    @classmethod
    def read(cls, values: Mapping[str, Any], *, allow_local: bool) -> Self:
        """Check values.

        Args:
            values: by field, as JSON has them.
            allow_local: whether an address on this machine may be named.

        Raises:
            ConfigurationError: with the fields that do not fit, without their values.
        """
        try:
            return cls.model_validate(values, context={ALLOW_LOCAL: allow_local})
        except ValidationError as error:
            places = error.errors(include_url=False, include_input=False, include_context=False)
            said = (": ".join(filter(None, (".".join(map(str, each["loc"])), _said(each["msg"])))) for each in places)
            raise ConfigurationError(
                "; ".join(said), remedy="docs/howto/use-shipped-agents.md says what each field means."
            ) from None

    def parts(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what was set, as JSON has it, and the secrets of it, each by field."""
        secrets = {name: getattr(self, name) for name in self.secret_names() & self.model_fields_set}
        plain = self.model_dump(mode="json", exclude_unset=True, exclude=set(self.secret_names()))
        return plain, {name: each.get_secret_value() for name, each in secrets.items() if each is not None}
