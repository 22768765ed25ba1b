"""The table of `legion profiles` at widths that terminals have: no name broken, nothing said nine times."""

from __future__ import annotations

import pytest
from rich.console import Console

from flows.cli import main
from flows.profiles.loading import BUNDLED, bundled_profiles, user_profiles
from flows.settings import CHECKOUT
from flows.terminal import profiles as listing

TEXT = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
LONGEST = "stable-diffusion-xl-1.0-inpainting-0.1"


def shown(width, monkeypatch, capsys):
    """Lines of the table, and those below it."""
    monkeypatch.setattr(listing, "out", lambda: Console(width=width, highlight=False))
    assert main(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    end = next(n for n, line in enumerate(lines) if line.startswith(("A wider", "Your own")))
    return lines[:end], lines[end:]


@pytest.mark.parametrize(
    ("width", "hidden"), [(80, "precision, offload, scorers"), (120, "prompts by"), (160, "")]
)
def test_names_stand_whole_and_lines_are_no_longer_than_the_terminal(width, hidden, monkeypatch, capsys):
    table, below = shown(width, monkeypatch, capsys)
    assert all(len(line) <= width for line in table)
    assert [line.split()[0] for line in table[1:] if line[0] != " "] == [
        "tabletop",
        *sorted(bundled_profiles())[:-1],
    ]
    assert sum(LONGEST in line for line in table) == 2 and "generator (bundled)" in table[1]
    assert below[0].startswith(f"A wider terminal also shows: {hidden}" if hidden else "Your own")


def test_a_column_stands_where_profiles_differ(monkeypatch, capsys):
    assert "defender" not in shown(200, monkeypatch, capsys)[0][0]
    user_profiles().mkdir(parents=True)
    begin, end = TEXT.index("[defender]"), TEXT.index("# The scorer that")
    seeing = TEXT[:begin] + '[defender]\nkind = "vlm"\nmodel = "seer"\n\n' + TEXT[end:]
    (user_profiles() / "seen.toml").write_text(seeing)
    table, _ = shown(200, monkeypatch, capsys)
    assert "defender" in table[0] and next(
        line for line in table if line.startswith("seen")
    ).rstrip().endswith("vlm")


def test_regions_have_a_line_of_their_own_where_they_are_painted_in_another_way(monkeypatch, capsys):
    table = shown(120, monkeypatch, capsys)[0]
    turbo = next(n for n, line in enumerate(table) if line.startswith("sdxl-turbo"))
    assert "2, 0" in table[turbo] and table[turbo + 1].split() == ["4,", "0"]
    dev = next(n for n, line in enumerate(table) if line.startswith("flux-dev"))
    assert table[dev + 1].startswith("flux-fill")


def test_painters_on_servers_and_sizes_that_are_not_given(monkeypatch, capsys):
    user_profiles().mkdir(parents=True)
    begin, end = TEXT.index("[generator]"), TEXT.index("[defender]")
    text = TEXT.replace('"tabletop/', f'"{CHECKOUT}/tabletop/').replace(
        f'path = "{CHECKOUT}/tabletop/weights/inpainter"', ""
    )
    begin, end = text.index("[generator]"), text.index("[defender]")
    server = '[generator]\nkind = "openai-images"\nmodel = "gpt-image-1"\nwidth = 1024\nheight = 1536\n\n'
    (user_profiles() / "a-server.toml").write_text(text[:begin] + server + text[end:])
    hub = '[generator]\nkind = "diffusers"\npath = "org/name"\n\n'
    (user_profiles() / "b-hub.toml").write_text(text[:begin] + hub + text[end:])
    table = shown(160, monkeypatch, capsys)[0]
    rows = {line.split()[0]: line for line in table[1:] if line[0] != " "}
    assert "1024 x 1536" in rows["a-server"] and rows["a-server"].count("the server's") == 2
    assert rows["b-hub"].count("its own") == 2 and "name" in rows["b-hub"]
