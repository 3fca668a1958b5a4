"""Show, set and unset what agents that come with Slotwire do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import print_items
from slotwire.ingest.cli.options import AsJson, OfAgent, Organization
from slotwire.ingest.cli.token_file import read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slotwire.ingest.operate.agent_settings_models import AgentSettingsItem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show, set and unset what agents that come with Slotwire do."
)

Agent = Annotated[str, typer.Argument(help="The agent, for example notify.")]


@app.command()
def show(*, agent: OfAgent = None, organization: Organization = None, as_json: AsJson = False) -> None:
    """Show what is set; of secrets only that they are."""
    _show(_found(agent, organization), as_json=as_json)


@app.command("set")
def set_(
    *,
    agent: Agent,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE...]", help="Fields to set; NAME= takes one away.", show_default=False),
    ] = None,
    organization: Organization = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A field that is a secret, from a file; - reads standard input. May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set some fields, for an organization or for all that have no settings of their own; others stay as they are.

    Lists are separated by commas. docs/howto/use-shipped-agents.md has the fields of each agent.
    """
    from slotwire.ingest.operate.agent_settings_models import AgentSettingsRequest

    given: dict[str, Any] = {name: _value(text) for name, text in map(_pair, values or ())}
    _refuse_secrets(agent, given)
    for name, file in map(_pair, secret or ()):
        given[name] = read_secret(file, option=f"--secret {name}=").get_secret_value()
    request = checked(AgentSettingsRequest, agent=agent, organization=organization, settings=given)
    _show([act("agents", lambda actions, who: actions.agent_settings.set(who, request))], as_json=as_json)


@app.command()
def unset(*, agent: Agent, organization: Organization = None, as_json: AsJson = False) -> None:
    """Remove the settings of an organization, or without one those for all that have none of their own."""
    from slotwire.ingest.errors import RequestRefused

    rows = [item for item in _found(agent, organization) if item.organization == organization]
    if not rows:
        raise RequestRefused(
            "there are no such settings", code="not_found", remedy="List them: slotwire agents settings show"
        )
    _show([act("agents", lambda actions, who: actions.agent_settings.unset(who, rows[0].id))], as_json=as_json)


def _found(agent: str | None, organization: str | None) -> Sequence[AgentSettingsItem]:
    from slotwire.ingest.operate.agent_settings_models import AgentSettingsQuery

    return list_items(
        "agents",
        lambda actions, who, query: actions.agent_settings.list(who, query),
        AgentSettingsQuery,
        agent=agent,
        organization=organization,
    )


def _pair(text: str) -> tuple[str, str]:
    from slotwire.ingest.errors import RequestRefused

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RequestRefused("write NAME=VALUE", code="option_invalid", remedy="For example: form=chat")
    return name, value


def _value(text: str) -> object:
    """Read a value as JSON has it, or as the text that it is; nothing takes the field away."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refuse_secrets(agent: str, given: dict[str, Any]) -> None:
    """Refuse secrets as arguments: other users of the machine see those, and the shell keeps them."""
    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.foundation.agent_settings import SHIPPED

    form = SHIPPED.get(agent)
    named = sorted(name for name, value in given.items() if form and name in form.secret_names() and value is not None)
    if named:
        raise RequestRefused(
            f"{', '.join(named)}: a secret does not belong on the command line",
            code="option_invalid",
            remedy=f"Write it into a file that only you can read, or pipe it in: --secret {named[0]}=-",
        )


def _show(items: Sequence[AgentSettingsItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "AGENT": lambda item: item.agent,
            "ORGANIZATION": lambda item: item.organization or "(all others)",
            "SETTINGS": lambda item: " ".join(f"{name}={json.dumps(value)}" for name, value in item.settings.items()),
            "SECRETS": lambda item: " ".join(item.secrets) or "-",
            "DRY RUN": lambda item: "yes" if item.settings.get("dry_run") else "no",
            "DISABLED": lambda item: item.disabled_why or "no",
            "CHANGED": lambda item: item.changed_at,
        },
        as_json=as_json,
        nothing="nothing is set here: agents that come with Slotwire do nothing without settings",
    )
