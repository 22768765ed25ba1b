"""`legion gc` and `legion db`: the memory bank kept in order."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from contracts.errors import InvalidInput, MemoryBankError
from flows.commands.options import add_common


def add(commands: Any) -> None:
    """Register the commands."""
    parser = commands.add_parser("gc", help="find pictures and masks that no run needs, and delete them")
    parser.set_defaults(handler=collect)
    parser.add_argument("--delete", action="store_true", help="delete them (default: only say which)")
    add_common(parser)

    parser = commands.add_parser("db", help="the memory bank's database: is all of it there and up to date?")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checked = actions.add_parser("check", help="look at the database and at every picture; change nothing")
    checked.set_defaults(handler=check)
    add_common(checked)
    upgraded = actions.add_parser("upgrade", help="bring the tables up to date")
    upgraded.set_defaults(handler=upgrade)
    add_common(upgraded)


def collect(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion gc`."""
    from memory_bank import open_memory_bank

    bank = open_memory_bank()
    files = bank.collect() if arguments.delete else bank.unreferenced()
    size = sum(file.size for file in files)
    if arguments.json:
        rows = [{"kind": f.kind, "digest": f.digest or None, "path": f.path, "bytes": f.size} for f in files]
        values = {"deleted": arguments.delete, "files": rows, "bytes": size}
        print(json.dumps(values, ensure_ascii=False))
        return 0
    if not files:
        print("nothing to delete: a run needs every file of the store")
        return 0
    counts = Counter(f"{file.kind}s" if file.digest else "unfinished files" for file in files)
    words = ", ".join(f"{number} {name}" for name, number in counts.items())
    if arguments.delete:
        print(f"deleted: {words}, {_megabytes(size)}")
    else:
        print(f"no run needs: {words}, {_megabytes(size)}; legion gc --delete deletes them")
    return 0


def check(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion db check`. Exit code 1 if something is wrong."""
    from memory_bank import open_memory_bank
    from memory_bank.places import database_url
    from memory_bank.schema import HEAD

    url = database_url(None)
    _check_there(url)
    bank = open_memory_bank(opening="look")
    name, store = bank.where()
    schema = bank.schema()
    if schema is None:
        raise InvalidInput(f"there is nothing in {name} yet: the first run makes it")
    facts: dict[str, Any] = {"database": name, "store": store, "schema": schema, "newest_schema": HEAD}
    bank.check_database()
    if schema != HEAD:
        _say(arguments.json, {**facts, "lost": None})
        raise MemoryBankError(f"the database has schema {schema}, the newest is {HEAD}: legion db upgrade")
    lost = bank.lost(progress=_progress(arguments.json))
    rows = [item._asdict() for item in lost]
    _say(arguments.json, {**facts, "lost": rows})
    if lost:
        runs = list(dict.fromkeys(item.run_id for item in lost))
        named = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        raise MemoryBankError(
            f"{len(lost)} of the store's files missing or damaged, of {named}: legion resume RUN makes anew "
            "what it can"
        )
    return 0


def upgrade(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion db upgrade`."""
    from memory_bank import open_memory_bank
    from memory_bank.places import database_url

    _check_there(database_url(None))
    looking = open_memory_bank(opening="look")
    before = looking.schema()
    looking.close()
    bank = open_memory_bank(opening="upgrade")
    after, (name, _) = bank.schema(), bank.where()
    if arguments.json:
        print(json.dumps({"database": name, "before": before, "after": after}))
    elif before == after:
        print(f"{name} is up to date (schema {after})")
    else:
        print(f"{name}: schema {after}, {'new' if before is None else f'was {before}'}")
    return 0


def _check_there(url: Any) -> None:
    """Raises InvalidInput for a SQLite file that is not there: looking would make an empty one."""
    from pathlib import Path

    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).expanduser().exists():
        raise InvalidInput(f"there is no database {url.database} yet: the first run makes it")


def _progress(quiet: bool) -> Any:
    def tell(done: int, of: int) -> None:
        if not quiet and sys.stderr.isatty() and (done % 50 == 0 or done == of):
            print(f"\rfiles: {done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return tell


def _say(as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(f"database: {facts['database']} (schema {facts['schema']})")
    print(f"store: {facts['store']}")
    if facts["lost"] is not None:
        print(f"files: {'all there' if not facts['lost'] else str(len(facts['lost'])) + ' lost'}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
