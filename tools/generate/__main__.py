"""`python -m tools.generate`: write every generated page; `--release-schemas` freezes the schemas then."""

from __future__ import annotations

import sys

from tools.generate import compatibility, json_schemas
from tools.generate.references import pages
from tools.sources import ROOT


def main() -> None:
    """Write the pages, and say which ones changed; with `--release-schemas`, freeze the schemas then."""
    for name, text in pages().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    if sys.argv[1:] == ["--release-schemas"]:
        try:
            for kind in compatibility.release(json_schemas.json_schemas()):
                sys.stdout.write(f"released {kind}\n")
        except compatibility.BreakingChange as problem:
            sys.exit(f"not released:\n{problem}")
    elif sys.argv[1:]:
        sys.exit("usage: python -m tools.generate [--release-schemas]")


if __name__ == "__main__":
    main()
