"""The rules of style that no linter of ours knows; each finding names the better form.

`tests/contract/test_tidy.py` holds the repository to them and plants a violation of each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 400
MAX_POLL_SECONDS = 0.05
LISTING_WORDS = 40
"""A package whose docstring has more words lists its files."""
VAGUE_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "misc"})
ENVIRONMENT_READERS = {
    "ingest/foundation/settings.py": "the settings themselves",
    "ingest/foundation/author_environment.py": "what a process must not have that runs an author's code",
    "ingest/foundation/local_stack.py": "the user's XDG folders, and what a child on the local stack inherits",
    "ingest/local/wiring.py": "what the children of the embedded stack inherit",
    "ingest/cli/local.py": "names the settings that the embedded stack ignores",
}
"""Who may read the environment, and what for."""
POOL_MAKER = "ingest/foundation/postgres.py"
"""Where `create_pool` is defined, over asyncpg's."""
VERIFIER = "ingest/receive/verify.py"
DELIVERY_FIELDS = frozenset({"body", "content_encoding", "received_at", "signed_at", "tenant"})
"""Fields of a `VerifiedDelivery` that tell a change of one from a change of another named tuple."""
PRODUCT = ("ingest/", "handlers/", "schemas/")
"""The folders of the product."""
PACED = ("tests/acceptance/", "tests/bench/", "tests/fault/")
"""Where time itself is part of what is shown: the product as a user runs it, load at a given pace, and faults that come
at any moment."""
# Written in parts, so that this file obeys the rule itself.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted"),
        ("repo1", "maven"),
        ("repo", "maven", "apache"),
        ("registry", "npmjs"),
        ("proxy", "golang"),
        ("crates", "io"),
        ("deb", "debian"),
        ("archive", "ubuntu"),
        ("registry-1", "docker"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
)
_ON_A_POOL = re.compile(r"\bpool\.(?:fetch|execute)\w*$")
MACHINE_PATHS = tuple("/" + path for path in ("work/", "tmp/w/", "root/", "home/"))


@dataclass(frozen=True)
class SourceFile:
    """One file of the repository.

    Attributes:
        path: relative to the root, with forward slashes.
        text: its content; empty when it is not text.
    """

    path: str
    text: str

    @classmethod
    def read(cls, root: Path, path: Path) -> SourceFile:
        """Read a file; what is not UTF-8 has no text."""
        try:
            return cls(path.as_posix(), (root / path).read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            return cls(path.as_posix(), "")

    @property
    def is_python(self) -> bool:
        """Whether it is a module."""
        return self.path.endswith(".py")

    @property
    def is_test(self) -> bool:
        """Whether it belongs to the tests."""
        return self.path.startswith("tests/")

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the module's syntax tree; none for other files."""
        return tuple(ast.walk(ast.parse(self.text))) if self.is_python else ()

    @property
    def top_level(self) -> list[ast.stmt]:
        """The statements of the module itself; none for other files."""
        return self.nodes[0].body if self.nodes and isinstance(self.nodes[0], ast.Module) else []

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines, numbered from one."""
        return enumerate(self.text.splitlines(), start=1)


Finding = tuple[int, str]
Rule = Callable[[SourceFile], Iterator[Finding]]
"""Judges a file by itself."""
CrossFileRule = Callable[[Iterable[SourceFile]], Iterator[tuple[SourceFile, Finding]]]
"""Judges files by what the others hold."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def short_functions(file: SourceFile) -> Iterator[Finding]:
    """A function fits on a screen."""
    for node in file.nodes:
        if isinstance(node, Function) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines: give its steps names, at most {MAX_FUNCTION_LINES}"


def short_modules(file: SourceFile) -> Iterator[Finding]:
    """A module is about one thing."""
    length = file.text.count("\n")
    if file.is_python and length > MAX_MODULE_LINES:
        yield length, f"{length} lines: split it by stage or by noun, at most {MAX_MODULE_LINES}"


def telling_names(file: SourceFile) -> Iterator[Finding]:
    """A name says what a module does."""
    for part in PurePosixPath(file.path).with_suffix("").parts:
        if part.strip("_").lower() in VAGUE_NAMES:
            yield 1, f"'{part}' names nothing: name it by what it does"


def class_names_are_unique(files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, Finding]]:
    """A name means one thing in the whole product, so two top-level classes never share one, private or not."""
    first: dict[str, SourceFile] = {}
    for file in files:
        if not file.path.startswith(PRODUCT):
            continue
        for node in file.top_level:
            if isinstance(node, ast.ClassDef) and first.setdefault(node.name, file) is not file:
                other = first[node.name].path
                yield file, (node.lineno, f"{other} has a class {node.name} too: give each a name that tells which")


def packages_list_their_files(files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, Finding]]:
    """The docstring of a package says what each of its files is, or `*_word` for all that end so."""
    listed: dict[str, str] = {}
    beside: list[SourceFile] = []
    for file in files:
        path = PurePosixPath(file.path)
        if file.path.startswith(PRODUCT) and file.is_python and path.name == "__init__.py":
            listed[str(path.parent)] = ast.get_docstring(ast.parse(file.text)) or ""
        elif file.path.startswith(PRODUCT) and file.is_python and path.name != "__main__.py":
            beside.append(file)
    for file in beside:
        path = PurePosixPath(file.path)
        words = re.findall(r"[*\w]+", listed.get(str(path.parent), ""))
        if len(words) > LISTING_WORDS and not {path.stem, f"*_{path.stem.rpartition('_')[2]}"} & set(words):
            yield file, (1, f"{path.parent}/__init__.py does not say what it is: add a line")


def settings_are_passed(file: SourceFile) -> Iterator[Finding]:
    """The environment is read once, in the settings."""
    if file.is_test or file.path in ENVIRONMENT_READERS:
        return
    for node in file.nodes:
        reads = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"}
        imports = isinstance(node, ast.ImportFrom) and node.module == "os"
        names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        if reads or (imports and names & {"environ", "getenv"}):
            yield getattr(node, "lineno", 1), "reads the environment: take a Settings group as an argument"


def pools_are_opened_in_roots(file: SourceFile) -> Iterator[Finding]:
    """A process has one composition root, the `process.py` of its folder, and only that opens a pool."""
    if file.is_test or PurePosixPath(file.path).name == "process.py" or file.path == POOL_MAKER:
        return
    for node in file.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "create_pool":
            yield node.lineno, "opens a pool: take one as an argument; a process.py opens it"


def agents_tell_outages(file: SourceFile) -> Iterator[Finding]:
    """An agent's own statement tells an outage of Postgres, which costs its event no attempt."""
    if not file.path.startswith("handlers/agents/"):
        return
    told = {
        id(inner)
        for node in file.nodes
        if isinstance(node, ast.With) and any("translated(" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    }
    for node in file.nodes:
        if isinstance(node, ast.Call) and _ON_A_POOL.search(ast.unparse(node.func)) and id(node) not in told:
            yield node.lineno, "an outage here costs the event an attempt: ask within translated()"


def only_verification_mints(file: SourceFile) -> Iterator[Finding]:
    """A `VerifiedDelivery` says that Calendly signed it, so only the module that checks signatures makes one."""
    if file.path == VERIFIER:
        return
    for node in file.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        changed = {keyword.arg for keyword in node.keywords} if name == "_replace" else set()
        if name == "VerifiedDelivery" or changed & DELIVERY_FIELDS:
            yield node.lineno, "makes a VerifiedDelivery: take one from verify() or verified_before()"


def tests_say_what_they_prove(file: SourceFile) -> Iterator[Finding]:
    """A test's docstring is one sentence about the product."""
    for test in _tests(file):
        if not ast.get_docstring(test):
            yield test.lineno, f"{test.name} has no docstring: say in one sentence what it proves"


def tests_prove_something(file: SourceFile) -> Iterator[Finding]:
    """A test without an assertion proves that nothing was raised, and does not say so."""
    functions = {node.name: node for node in file.nodes if isinstance(node, Function)}
    for test in _tests(file):
        if not _proves(test, functions, set()):
            yield test.lineno, f"{test.name} asserts nothing: assert what the reader should believe"


def nothing_sleeps(file: SourceFile) -> Iterator[Finding]:
    """A test waits for a signal, never for time; another process, which gives none, is asked often and briefly."""
    polls = {call for loop in file.nodes if isinstance(loop, ast.While) for call in ast.walk(loop) if _is_poll(call)}
    for node in file.nodes:
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}):
            continue
        if ast.unparse(node.func) == "time.sleep":
            if not (file.path.startswith("tests/acceptance/") and node in polls):
                yield node.lineno, "time.sleep blocks: await a signal, or wait on an event with a limit"
        elif (
            file.is_test and not file.path.startswith(PACED) and node not in polls and ast.unparse(node.args[0]) != "0"
        ):
            yield node.lineno, "asyncio.sleep in a test: await an event, or poll a condition under asyncio.timeout"


def nothing_is_skipped(file: SourceFile) -> Iterator[Finding]:
    """A test that does not run proves nothing."""
    if not file.is_test:
        return
    for node in file.nodes:
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip", "skipIf"}:
            yield node.lineno, f"{node.attr}: make it run, or delete it"


def no_registry_is_named(file: SourceFile) -> Iterator[Finding]:
    """Where packages come from is the user's choice: pip's, the engine's and jgo's own configuration say it."""
    for number, line in file.lines():
        for host in REGISTRY_HOSTS:
            if host in line:
                yield number, f"names {host}: leave the address to the tool's own configuration"


def no_machine_is_named(file: SourceFile) -> Iterator[Finding]:
    """A path of one machine holds on no other."""
    for number, line in file.lines():
        for path in MACHINE_PATHS:
            if path in line and re.search(rf"(?<![\w.$}}/-]){re.escape(path)}", line):
                yield number, f"names {path}: write a path relative to the repository, or take one as an argument"


def exceptions_have_reasons(file: SourceFile) -> Iterator[Finding]:
    """Who silences a linter says why, on the same line."""
    if not file.is_python:
        return
    for number, line in file.lines():
        for found in re.finditer(r"# (noqa|type: ignore|pragma: no cover)(?P<rest>.*)", line):
            rest = re.sub(r"^(: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*|\[[a-z, -]+\])", "", found["rest"])
            if len(re.sub(r"\W", "", rest)) < 6 or (rest == found["rest"] and found[1] != "pragma: no cover"):
                yield number, f"'{found[1]}' without a code and a reason: '# {found[1]}… # because …'"


def no_merge_markers(file: SourceFile) -> Iterator[Finding]:
    """A conflict is resolved before it is committed."""
    for number, line in file.lines():
        if re.match(r"(<{7}|>{7}|\|{7})( |$)|={7}$", line):
            yield number, "merge marker: resolve the conflict"


def nothing_is_left_to_do(file: SourceFile) -> Iterator[Finding]:
    """What is left to do belongs to the tracker; a comment about it rots."""
    for number, line in file.lines():
        if re.search(r"(#|//|--)\s*(TODO|FIXME|XXX)\b", line):
            yield number, "a note to do something later: do it, or file it"


def only_example_people(file: SourceFile) -> Iterator[Finding]:
    """Mail addresses are of example domains: nobody gets mail because of a test."""
    for number, line in file.lines():
        if "@" not in line:
            continue
        for domain in re.findall(r"[\w.+-]+@((?:[a-z0-9-]+\.)+[a-z]{2,})\b(?!\()", line, re.IGNORECASE):
            if not re.search(r"(^|\.)(example(\.(com|org|net))?|test|invalid|localhost)$", domain.lower()):
                yield number, f"a mail address at {domain}: use example.com or example.org"


def locks_hold_hashes(file: SourceFile) -> Iterator[Finding]:
    """A lock file holds versions and hashes; where from is the user's choice."""
    if not file.path.endswith(".lock"):
        return
    for number, line in file.lines():
        if re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", line):
            yield number, "an address in a lock file: make it with `make lock`"
    for wanted in re.finditer(r"^(?P<name>[A-Za-z0-9].*)\n(?P<rest>([ ].*\n)*)", file.text, re.MULTILINE):
        if "==" not in wanted["name"] or "--hash=sha256:" not in wanted["rest"]:
            yield file.text[: wanted.start()].count("\n") + 1, "not pinned with a hash: make it with `make lock`"


RULES: tuple[Rule, ...] = (
    short_functions,
    short_modules,
    telling_names,
    settings_are_passed,
    pools_are_opened_in_roots,
    agents_tell_outages,
    only_verification_mints,
    tests_say_what_they_prove,
    tests_prove_something,
    nothing_sleeps,
    nothing_is_skipped,
    no_registry_is_named,
    no_machine_is_named,
    exceptions_have_reasons,
    no_merge_markers,
    nothing_is_left_to_do,
    only_example_people,
    locks_hold_hashes,
)
CROSS_FILE_RULES: tuple[CrossFileRule, ...] = (class_names_are_unique, packages_list_their_files)


def _tests(file: SourceFile) -> Iterator[Function]:
    if PurePosixPath(file.path).name.startswith("test_"):
        for node in file.nodes:
            if isinstance(node, Function) and node.name.startswith("test_"):
                yield node


def _proves(function: Function, others: dict[str, Function], seen: set[str]) -> bool:
    """Say whether a function asserts: itself, through pytest, by waiting `until`, or in a function it calls."""
    seen.add(function.name)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in {"raises", "fail", "warns"} or name.startswith(("assert_", "until", "_until")):
                return True
            if name in others and name not in seen and _proves(others[name], others, seen):
                return True
    return False


def _is_poll(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}):
        return False
    seconds = node.args[0]
    return isinstance(seconds, ast.Constant) and float(str(seconds.value)) <= MAX_POLL_SECONDS
