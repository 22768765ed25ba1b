"""Profiles: names, files, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from flows.profiles import BUNDLED, bundled_profiles, load_profile
from flows.settings import CHECKOUT
from prompts import load_lexicon

TEXT = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", bundled_profiles())
def test_bundled_profiles_load_and_lie_in_the_checkout(name) -> None:
    profile = load_profile(name)
    assert profile.name == name
    load_lexicon(profile.modifier.lexicon)
    sections = [profile.generator, profile.defender, profile.selection_scorer, *profile.reporting_scorers]
    assert all(Path(section.path).is_relative_to(CHECKOUT) for section in sections)


def test_the_scorer_that_selects_does_not_report() -> None:
    profile = load_profile("tabletop")
    assert profile.reporting_scorers
    assert profile.selection_scorer.path not in {section.path for section in profile.reporting_scorers}


def test_a_file_of_ones_own_has_paths_relative_to_itself(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(TEXT.replace("tabletop/weights/generator", "painter"))
    profile = load_profile(str(tmp_path / "mine.toml"))
    assert profile.name == "mine" and profile.generator.path == str(tmp_path / "painter")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="unknown profile 'tabeltop': did you mean 'tabletop'"):
        load_profile("tabeltop")
    with pytest.raises(InvalidInput, match="known: tabletop"):
        load_profile("qqqq")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = ", "step = ", "unknown key 'generator.step'|'generator.steps' is missing"),
        ('device = "cpu"', 'devise = "cpu"', "unknown key 'devise'"),
        ('device = "cpu"', 'name = "x"', "'name' is not a setting"),
        ("steps = 16", "steps = 0", "generator.steps"),
        ("steps = 16", 'steps = "many"', "generator.steps"),
        ('kind = "legion"', 'kind = "oracle"', "defender.kind"),
        ("[defender]", "[defender", "cannot be read"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, old, new, said) -> None:
    assert old in TEXT
    (tmp_path / "mine.toml").write_text(TEXT.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=said) as caught:
        load_profile(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidInput, match="nowhere.toml does not exist"):
        load_profile("nowhere.toml")
