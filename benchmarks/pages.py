"""Write the tables of README and docs from what was measured (docs/measured/).

    python -m benchmarks.pages            write them
    python -m benchmarks.pages --check    say which pages show another table than was measured

A comment above a table says where it comes from: `<!-- measured: world 2 -->` is the second table of
docs/measured/world.txt as it is; after `measured-arms: NAME`, each `arm=heading` is a column of it, and the
rows are the figures that stand on the page already.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.everything import kept

PAGES = (Path("README.md"), *sorted(Path("docs").glob("*.md")))
TABLE = r"(?:^\|.*\n)+"
MARKED = re.compile(rf"^<!-- (measured|measured-arms): (.+) -->\n\n({TABLE})", re.M)


def main() -> int:
    """1 if a page shows another table than was measured and `--check` was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    old = dict(outdated())
    for page, text in old.items():
        print(f"{page}: {'shows another table than was measured' if args.check else 'written'}")
        if not args.check:
            page.write_text(text, encoding="utf-8")
    return int(bool(old) and args.check)


def outdated() -> Iterator[tuple[Path, str]]:
    """Every page that would change, and what it should say."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text, measured)) != text:
            yield page, filled


def measured(name: str) -> str:
    """The kept answer of a measurement."""
    return kept(name).read_text(encoding="utf-8")


def fill(text: str, answer: Callable[[str], str]) -> str:
    """A page with every marked table as it was measured; `answer` gives a measurement's text by its name."""
    return MARKED.sub(lambda found: _filled(found[1], found[2], found[3], answer), text)


def _filled(kind: str, source: str, shown: str, answer: Callable[[str], str]) -> str:
    name, _, rest = source.partition(" ")
    if kind == "measured":
        table = re.findall(TABLE, answer(name), re.M)[int(rest) - 1]
    else:
        heads = dict(part.split("=", 1) for part in rest.split("; "))
        table = by_arm(
            answer(name), heads, [row.split(" | ")[0].strip("| ") for row in shown.splitlines()[2:]]
        )
    return f"<!-- {kind}: {source} -->\n\n{table}"


def by_arm(said: str, heads: dict[str, str], claims: list[str]) -> str:
    """Rows `arm: claim` of a table as a column for each arm under its heading, with the first arm's bars."""
    cells = {
        (row[1], row[2]): (row[3], row[4])
        for row in re.finditer(r"^\| ([\w-]+): (.*?) \| (.*?) \| (.*?) \|$", said, re.M)
    }
    first = next(iter(heads))
    rows = [["figure", "bar", *heads.values()], ["---"] * (2 + len(heads))]
    for claim in claims:
        rows.append([claim, cells[first, claim][0], *(cells[arm, claim][1] for arm in heads)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
