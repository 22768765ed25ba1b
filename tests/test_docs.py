"""The documentation cannot rot: what it tells a person to type is what the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from flows.cli import build_parser
from flows.profiles.loading import load_profile
from flows.settings import CHECKOUT

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
COMMANDS = tuple(build_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr,arg-type]


def code_of(page: Path) -> str:
    """All code blocks and code spans of a page, one per line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return "\n".join([*blocks, *spans])


def commands(page: Path) -> list[list[str]]:
    lines = [line.strip().removeprefix("$ ") for line in code_of(page).splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("legion ")]


def targets_named(page: Path) -> set[str]:
    return set(re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", code_of(page), re.M))


def test_readme_names_every_command() -> None:
    named = {words[0] for words in commands(PAGES[0])}
    assert named >= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_legion_command_parses(page: Path) -> None:
    for words in commands(page):
        if all(re.fullmatch("[a-z]+|--help", word) for word in words):
            assert words[0] in (*COMMANDS, "--help")  # only names the command
            continue
        try:
            if words[0] == "train" and words[1] != "network":
                assert re.search(rf'"{words[1]}"', (ROOT / "tabletop" / "training.py").read_text()), words
            elif "--help" not in words:
                build_parser().parse_args(words)
        except InvalidInput as error:
            pytest.fail(f"{page.name}: legion {shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    missing = {name for name in targets_named(page) if not re.search(rf"^{re.escape(name)}:", makefile, re.M)}
    assert not missing


def test_readme_names_the_make_targets() -> None:
    assert targets_named(PAGES[0]) >= {"demo", "test", "check", "train-tabletop"}


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_readme_names_every_option_of_regenerate() -> None:
    parser = build_parser()
    subparsers = next(action for action in parser._actions if action.dest == "command")
    options = {
        o for a in subparsers.choices["regenerate"]._actions for o in a.option_strings if o.startswith("--")
    }
    assert not [option for option in options if option != "--help" and option not in README]


def test_no_page_or_profile_names_a_machine_path() -> None:
    for page in [*PAGES, *(ROOT / "flows" / "profiles").glob("*.toml")]:
        assert str(CHECKOUT) not in page.read_text(encoding="utf-8")


def test_the_tree_in_the_readme_names_every_room() -> None:
    for room in ("contracts", "prompts", "defender", "controller", "memory_bank", "tabletop", "flows"):
        assert re.search(rf"^{room}/ +\S", README, re.M)


def test_profile_of_the_readme_loads() -> None:
    names = re.findall(r"--profile ([a-z0-9]+)\b", code_of(PAGES[0]))
    assert names
    for name in names:
        load_profile(name)
