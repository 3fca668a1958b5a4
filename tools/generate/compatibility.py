"""What a change of a published schema breaks, and how a release is frozen.

A version of a type promises both ways: a reader of the released schema reads new records, and a reader of the new one
reads the records that are on the topics already. So within a version a field may be added if it is optional, and what
is said about a field may change; its type, its limits and whether it is always there may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from tools.generate.json_schemas import FOLDER, Schema, as_json
from tools.sources import ROOT

RELEASED = ROOT / FOLDER / "released"
ANNOTATIONS = frozenset(
    {"$schema", "$id", "$defs", "$comment", "title", "description", "examples", "deprecated", "x-sensitive"}
)
"""Keywords that say something about a value and refuse none."""
_COMPARED = frozenset({"properties", "required", "type", "format", "enum", "const"})
_WHERE = "data"


class BreakingChange(Exception):
    """The schemas cannot be released: consumers of the released ones would break."""


def released(folder: Path = RELEASED) -> dict[str, Schema]:
    """Return the frozen schemas by type; none before the first release."""
    return {path.stem: orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def release(current: Mapping[str, Schema], folder: Path = RELEASED) -> list[str]:
    """Freeze the schemas as what consumers hold from now on.

    Returns:
        the types that are new or changed.

    Raises:
        BreakingChange: a schema breaks the release before.
    """
    before = released(folder)
    if found := list(breaks(before, current)):
        raise BreakingChange("\n".join([*found, "give what changed a new class and version instead"]))
    changed = [kind for kind, schema in current.items() if before.get(kind) != schema]
    for kind in changed:
        (folder / f"{kind}.json").write_text(as_json(current[kind]), encoding="utf-8")
    return changed


def breaks(before: Mapping[str, Schema], current: Mapping[str, Schema]) -> Iterator[str]:
    """Say what breaks for those who know the released schemas; types that are new break nothing."""
    for kind, schema in before.items():
        if kind not in current:
            yield f"{kind}: is no longer published"
        else:
            for finding in changes(schema, current[kind]):
                yield f"{kind}: {finding}"


def changes(old: Schema, new: Schema) -> list[str]:
    """Say which changes between two schemas of one type break somebody, and where."""
    return list(dict.fromkeys(_compare(_inlined(old, old), _inlined(new, new), _WHERE)))


def _inlined(schema: Any, root: Schema) -> Any:
    """Put in what is referred to, so that the name of a definition does not matter. Ours do not recur."""
    if isinstance(schema, list):
        return [_inlined(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return _inlined({**target, **{name: item for name, item in schema.items() if name != "$ref"}}, root)
    return {name: _inlined(item, root) for name, item in schema.items() if name != "$defs"}


def _compare(old: Schema, new: Schema, where: str) -> Iterator[str]:
    before, after = _forms(old), _forms(new)
    lost, gained = before.keys() - after.keys(), after.keys() - before.keys()
    if lost or gained:
        how = "changed" if lost and gained else "narrowed" if lost else "widened"
        yield f"{where}: its type was {how} from {' or '.join(before)} to {' or '.join(after)}"
    yield from _compare_limits(_outside(old), _outside(new), where)
    for form, was in before.items():
        if (now := after.get(form)) is not None:
            yield from _compare_limits(was, now, where)
            yield from _compare_fields(was, now, where)
            for keyword, place in (("items", "[]"), ("additionalProperties", ".*")):
                if isinstance(was.get(keyword), dict) and isinstance(now.get(keyword), dict):
                    yield from _compare(was[keyword], now[keyword], f"{where}{place}")


def _outside(schema: Schema) -> Schema:
    """Return what is said of all kinds of values together."""
    if "anyOf" in schema:
        return {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return {"default": schema["default"]} if "default" in schema else {}


def _forms(schema: Schema) -> dict[str, Schema]:
    """Take a schema apart into the kinds of values it accepts, each with its own limits."""
    found: dict[str, Schema] = {}
    for option in schema.get("anyOf", [schema]):
        if "enum" in option or "const" in option:
            values = option.get("enum", [option.get("const")])
            names = [f"the value {orjson.dumps(value).decode()}" for value in values]
        elif isinstance(option.get("type"), list):
            names = option["type"]
        else:
            names = [" ".join(filter(None, (option.get("type", "anything"), option.get("format"))))]
        for name in names:
            unique = name if name not in found else f"{name} ({len(found)})"
            found[unique] = {keyword: value for keyword, value in option.items() if keyword != "default"}
    return found


def _compare_limits(old: Schema, new: Schema, where: str) -> Iterator[str]:
    """Hold every keyword that is not compared on its own: length, range, pattern, default, what else may come."""
    for keyword in sorted((old.keys() | new.keys()) - ANNOTATIONS - _COMPARED):
        was, now = old.get(keyword), new.get(keyword)
        by_itself = keyword in {"items", "additionalProperties"} and isinstance(was, dict) and isinstance(now, dict)
        if was != now and not by_itself:
            yield f"{where}: its `{keyword}` was changed from {_shown(was)} to {_shown(now)}"


def _shown(value: object) -> str:
    return "nothing" if value is None else orjson.dumps(value).decode()


def _compare_fields(old: Schema, new: Schema, where: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
    for name in before:
        if name not in after:
            yield f"{where}.{name}: was removed"
        else:
            yield from _compare(before[name], after[name], f"{where}.{name}")
    for name in sorted(needed_after - needed_before):
        problem = "is required now" if name in before else "is new and required"
        yield f"{where}.{name}: {problem}, and records that are on the topics do not have it"
    for name in sorted(needed_before - needed_after):
        if name in after:
            yield f"{where}.{name}: was always there and is optional now"
