"""Call any operation of Calendly's API as one of your connections, and list them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked
from slotwire.ingest.cli.options import AsJson, Organization
from slotwire.ingest.foundation.printable import printable

if TYPE_CHECKING:
    from slotwire.ingest.foundation.operation_table import Operation
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(add_completion=False)

SECRETS = frozenset({"signing_key"})
"""Values that no argument may hold."""


@app.command()
def calendly(  # noqa: PLR0913 -- what a call is made of
    operation: Annotated[
        str | None, typer.Argument(metavar="[CALL]", help="For example list-event-types; without one, all are listed.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...", help="Its parameters; a resource's bare id will do.", show_default=False
        ),
    ] = None,
    *,
    organization: Organization = None,
    connection: Annotated[UUID | None, typer.Option(help="The connection to call as.", show_default=False)] = None,
    body: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE", help="The body of a call whose body is no flat list.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The most items of a list.")] = 100,
    write: Annotated[bool, typer.Option("--write", help="Allow a call that changes something at Calendly.")] = False,
    everyone: Annotated[bool, typer.Option("--everyone", help="Cancel a meeting that several people booked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Call an operation of Calendly's API as one of your connections; it prints what Calendly answers, as it came.

    Without CALL it lists all operations, with what each takes and needs. What Calendly answers is JSON, one line an
    item of a list; with --json a single document is one line, too. It may hold personal data.
    """
    from slotwire.ingest.operate.calendly_models import CallRequest

    if operation is None:
        _list(as_json=as_json)
        return
    request = checked(
        CallRequest,
        operation=operation,
        values=_named(values or []),
        body=None if body is None else _body(body),
        connection=connection,
        organization=organization,
        limit=limit,
        write=write,
        everyone=everyone,
    )

    async def work(actions: Actions, who: Principal) -> None:
        async for answer in actions.calendly_api.call(who, request):
            _print(answer, one_line=as_json or (isinstance(answer, dict) and "resource" not in answer))

    act("calendly", work)


def _list(*, as_json: bool) -> None:
    from slotwire.ingest.foundation.operation_table import operations

    for each in operations().values():
        if as_json:
            typer.echo(json.dumps(_facts(each)))
            continue
        takes = " ".join(item.name if item.required else f"[{item.name}]" for item in each.takes)
        plan = f", plan {each.plan}" if each.plan else ""
        typer.echo(f"{each.name}  ({each.method} {each.path}; {each.scope}{plan})")
        typer.echo(f"    {takes.replace('requestBody', '--body') or 'takes nothing'}")


def _facts(operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation.name,
        "method": operation.method,
        "path": operation.path,
        "scope": operation.scope,
        "plan": operation.plan,
        "takes": [
            {"name": each.name, "place": each.place, "required": each.required, "type": each.type}
            for each in operation.takes
        ],
        "body_schema": operation.body_schema,
    }


def _named(values: list[str]) -> dict[str, list[str]]:
    from slotwire.ingest.errors import RequestRefused

    found = defaultdict[str, list[str]](list)
    for value in values:
        name, is_named, text = value.partition("=")
        if not is_named:
            raise RequestRefused(
                "a value has no name", code="option_invalid", remedy="Give each as NAME=VALUE, for example user=ID."
            )
        if name in SECRETS:
            raise RequestRefused(
                f"{name} is a secret, and everybody on this machine can read a command's arguments",
                code="option_invalid",
                remedy="`slotwire subscriptions create` subscribes with a key of its own, which nobody sees.",
            )
        found[name].append(text)
    return dict(found)


def _body(given: str) -> object:
    from pathlib import Path

    import orjson

    from slotwire.ingest.errors import RequestRefused

    try:
        return orjson.loads(Path(given[1:]).read_bytes() if given.startswith("@") else given)
    except OSError as error:
        raise RequestRefused(
            f"the file of --body cannot be read: {error.strerror}", code="option_invalid", remedy="Check its path."
        ) from None
    except orjson.JSONDecodeError as error:
        raise RequestRefused(
            f"--body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}",
            code="option_invalid",
            remedy="Put it into a file, and give --body @FILE.",
        ) from None


def _print(answer: object, *, one_line: bool) -> None:
    import orjson

    if isinstance(answer, str):
        typer.echo(printable(answer))
        return
    typer.echo(orjson.dumps(answer, option=0 if one_line else orjson.OPT_INDENT_2).decode())
