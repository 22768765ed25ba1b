"""Assembly: every part of a profile reaches its loader, once per process, and missing weights are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from flow_samples import ScriptedDefender, ScriptedGenerator, ScriptedScorer

from contracts.errors import CheckpointError, InvalidInput
from flows.profiles.loading import BUNDLED, load_profile

pytestmark = pytest.mark.slow  # importing the concrete classes imports torch and diffusers


@pytest.fixture
def profile_file(tmp_path) -> Path:
    text = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
    for part in ("generator", "defender", "scorer", "reporter"):
        (tmp_path / "tabletop" / "weights" / part).mkdir(parents=True)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


@pytest.fixture
def assemble():
    from flows import assemble

    cached = assemble.regeneration_tools, assemble.defender, assemble.scorers
    for part in cached:
        part.cache_clear()
    yield assemble
    for part in cached:
        part.cache_clear()


def test_every_part_reaches_its_loader_once(assemble, profile_file, monkeypatch) -> None:
    profile, loaded = load_profile(str(profile_file)), []

    class Painter(ScriptedGenerator):
        def fits(self, prompt: str) -> bool:
            return len(prompt) < 20

    painter = Painter()

    def load_painter(path, **options):
        loaded.append(("generator", str(path), options))
        return painter

    class Watchful(ScriptedDefender):
        def at(self, artifact_probability):
            assert artifact_probability == profile.loop.artifact_probability
            return self

    def load_defender(path, device, dtype, batch_size, four_bit, clip, sam):
        loaded.append(("defender", str(path), device))
        return Watchful(painter)

    def load_scorer(kind, path, name, **options):
        loaded.append((name, kind, path, options))
        return ScriptedScorer(painter, name)

    monkeypatch.setattr(assemble.DiffusersGenerator, "load", load_painter)
    monkeypatch.setattr(assemble.LegionDefender, "load", load_defender)
    monkeypatch.setattr(assemble, "load_scorer", load_scorer)
    tools = assemble.regeneration_tools(str(profile_file))
    assert assemble.regeneration_tools(str(profile_file)) is tools
    section = profile.generator
    same = ("steps", "guidance_scale", "dtype", "batch_size", "variant", "offload", "quantize", "width")
    same += ("height", "max_sequence_length", "vae_tiling", "vae_slicing", "loras")
    options = {name: getattr(section, name) for name in same}
    options |= {"device": profile.device, "shelf": assemble.SHELF, "exact": None}
    scoring = {"device": profile.device, "dtype": "float32", "batch_size": 32}
    assert loaded == [
        ("generator", section.path, options),
        ("preference", "clip", profile.selection_scorer.path, scoring),
        ("reporter", "clip", profile.reporting_scorers[0].path, scoring),
        ("defender", profile.defender.path, profile.device),
    ]
    assert [scorer.name for scorer in tools.scorers] == ["preference", "reporter"]
    assert tools.modifier.lexicon.name == profile.modifier.lexicon and tools.modifier.fits("short")
    assert not tools.modifier.fits("x" * 20)
    assert dataclasses.is_dataclass(tools)


@pytest.mark.parametrize(
    ("generator", "inpainting", "asked", "expected"),
    [
        (None, None, None, (True, True)),  # exact on a CPU
        (False, None, None, (False, False)),
        (None, False, None, (True, False)),
        (False, True, None, (False, True)),
        (None, None, False, (False, False)),
        (True, True, False, (False, False)),
    ],
)
def test_a_profile_says_whether_pictures_and_regions_are_painted_in_batches(
    assemble, tmp_path, generator, inpainting, asked, expected
) -> None:
    text = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
    text = text.replace('"tabletop/weights', f'"{Path("tabletop/weights").resolve()}')
    for key, value in (("batch_size = 16", generator), ("candidates = 4", inpainting)):
        if value is not None:
            text = text.replace(key, f"{key}\nexact = {str(value).lower()}")
    (tmp_path / "mine.toml").write_text(text)
    name = str(tmp_path / "mine.toml")
    tools = assemble.generator(name, asked), assemble.inpainter(name, asked)
    assert tuple(tool.describe()["exact"] for tool in tools) == expected
    assert [tool.batching.most for tool in tools] == [1 if exact else 16 for exact in expected]


def test_an_inpainter_of_its_own_is_asked_in_the_same_way(assemble, tmp_path) -> None:
    text = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
    weights = Path("tabletop/weights").resolve()
    text = text.replace('"tabletop/weights', f'"{weights}')
    text = text.replace("candidates = 4", "candidates = 4\nexact = false")
    (tmp_path / "mine.toml").write_text(text)
    asked = [assemble.inpainter(str(tmp_path / "mine.toml"), exact) for exact in (None, True)]
    assert [tool.describe()["exact"] for tool in asked] == [False, True]


def test_another_modifier_does_not_ask_for_what_the_profiles_own_needs(assemble, tmp_path) -> None:
    text = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
    text = text.replace('"tabletop/weights', f'"{Path("tabletop/weights").resolve()}')
    (tmp_path / "mine.toml").write_text(text.replace('kind = "rules"', 'kind = "openai"\nmodel = "m"', 1))
    name = str(tmp_path / "mine.toml")
    with pytest.raises(InvalidInput, match="no key: set the environment variable OPENAI_API_KEY"):
        assemble.regeneration_tools(name)
    tools = assemble.regeneration_tools(name, own_modifier=False)
    assert assemble.with_modifier(tools, name, {"kind": "rules"}).modifier.name == "rules"
    asking = [assemble.with_modifier(tools, name, {"base_url": "http://127.0.0.1:9/v1"}) for _ in range(2)]
    assert asking[0].modifier.name == "llm" and asking[0].modifier is asking[1].modifier


@pytest.mark.parametrize("part", ["generator", "defender"])
def test_missing_weights_are_named(assemble, profile_file, part) -> None:
    (profile_file.parent / "tabletop" / "weights" / part).rmdir()
    with pytest.raises(CheckpointError, match=f"the {part}'s weights are missing"):
        assemble.regeneration_tools(str(profile_file)) if part == "generator" else assemble.defender(
            str(profile_file)
        )


def test_tiles_wrap_the_defender_and_options_change_it(assemble, profile_file, monkeypatch) -> None:
    seen = {}
    loaded = ScriptedDefender(ScriptedGenerator())

    def load_defender(path, device, dtype, batch_size, four_bit, clip, sam):
        seen.update(device=device, dtype=dtype, batch_size=batch_size, four_bit=four_bit)
        return loaded

    monkeypatch.setattr(assemble.LegionDefender, "load", load_defender)
    changes = {"tiles": 2, "tile_confidence": 0.4, "dtype": "bfloat16", "device": "cuda:1", "batch_size": 3}
    tiled = assemble.defender(str(profile_file), **changes)
    assert (tiled.inner._tool(), tiled.tiling.zoom, tiled.tiling.min_confidence) == (loaded, 2, 0.4)
    assert seen == {"device": "cuda:1", "dtype": "bfloat16", "batch_size": 3, "four_bit": False}
