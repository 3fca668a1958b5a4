"""The how-to of the management API: its commands run as they stand, and show what it says they show."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, simulator
from tests.support.command import environment
from tests.support.management_api import management_api, write_events
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "use-the-management-api.md"
SECONDS = 120.0
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def script() -> tuple[str, list[str]]:
    """Join the page's commands to one script, and give the lines it says they print, in their order."""
    parts, expected = ["set -euo pipefail"], list[str]()
    for kind, body in _BLOCK.findall(HOWTO.read_text(encoding="utf-8")):
        text = "\n".join(line.removeprefix("   ") for line in body.splitlines())
        if kind == "sh":
            parts.append(text)
        elif kind == "python":
            parts.append(f"export KEY API\npython - <<'END'\n{text}\nEND")
            expected.append("2 events")
        else:
            expected += text.splitlines()
    return "\n".join(parts), expected


def fits(shown: str) -> re.Pattern[str]:
    """Make a pattern of a line in which … stands for anything, and blanks for any number of them."""
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in re.sub(" +", " ", shown.strip()).split("…")]
    return re.compile(".*".join(parts))


async def test_its_commands_run_and_show_what_it_says(database: Database, tmp_path: Path) -> None:
    """From a key to the audit, against the API and the simulator: every line that is shown is printed, in order."""
    commands, expected = script()
    async with simulator(Options(seed="howto", rate_limit=AMPLE)) as running:
        settings = settings_for(database).model_copy(
            update={"calendly": CalendlySettings(api_url=running.url, assumed_calls_per_minute=AMPLE)}
        )
        (tmp_path / "token.txt").write_text(running.owner_token + "\n")
        await write_events(database, "ORG", 2)
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        async with management_api(settings) as api:
            child = await asyncio.create_subprocess_exec(
                *("bash", "-c", commands),
                cwd=tmp_path,
                env=environment(settings, API=api.url, PATH=path),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(SECONDS):
                    printed, _ = await child.communicate()
            finally:
                if child.returncode is None:
                    child.kill()
    told = printed.decode()
    assert child.returncode == 0, told
    place = 0
    for line in expected:
        found = fits(line).search(told, place)
        assert found, f"{line}\nis not in\n{told[place:]}"
        place = found.end()
    assert running.owner_token not in told
