"""Every family of checkpoints, from the command line to the pictures: small random ones, real layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from contracts.errors import InvalidInput
from flows.cli import main
from flows.profiles.loading import BUNDLED
from flows.settings import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

NAMES = ["sd15", "sd15-inpainting", "sdxl", "sdxl-inpainting", "sdxl-turbo", "sd3"]
NAMES += ["flux", "flux-schnell", "flux-fill"]
PROMPTS = ["a red cone on the table", "a blue ball", "the ball", "a cone, perfect shape"]
SIDE = 64


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders by the family's name, each made when it is first asked for."""
    from tiny_families import save_family

    made, root = {}, tmp_path_factory.mktemp("families")

    def folder(name):
        if name not in made:
            made[name] = save_family(name, root / name)
        return made[name]

    return folder


@pytest.fixture(autouse=True)
def own_painters(monkeypatch):
    """What earlier tests painted with is put away."""
    from controller.region_gate import OpenGate
    from flows import assemble

    # Random paintings are no repairs: without a gate they stay, so that there is something to compare.
    monkeypatch.setattr(assemble, "MeasuredGate", lambda _settings: OpenGate())
    for cached in (assemble.regeneration_tools, assemble.inpainting_tools):
        cached.cache_clear()
    assemble.SHELF.put_away_others(None)
    yield assemble


def pipelines(loads):
    """Folders of the pipelines among what was loaded, each as often as that."""
    return [key[0] for key in loads.elements() if key[0] not in ("defender", "scorer")]


def said(capsys, *words):
    """The command's JSON."""
    code = main([*map(str, words), "--json", "--no-prefect"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


@pytest.mark.parametrize("name", NAMES)
def test_a_family_paints_alone_and_in_a_batch_and_repairs_without_touching_the_rest(
    name, checkpoints, tmp_path, capsys
):
    options = ("--generator", checkpoints(name), "--rounds", 1)
    size = ("--steps", 1, "--width", SIDE, "--height", SIDE, "--seed", 3)
    together = said(capsys, "regenerate", *PROMPTS, *options, *size, "--out", tmp_path / "four")["runs"]
    alone = said(capsys, "regenerate", PROMPTS[2], *options, *size, "--out", tmp_path / "one")["runs"][0]
    painted = [np.asarray(Pillow.open(run["rounds"][0]["image"])) for run in together]
    assert all(picture.shape == (SIDE, SIDE, 3) and picture.std() > 1 for picture in painted)
    assert len({picture.tobytes() for picture in painted}) == 4
    assert np.array_equal(painted[2], np.asarray(Pillow.open(alone["rounds"][0]["image"])))

    before, mask = painted[0], np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 12:44] = 255
    picture = tmp_path / "picture.png"
    Pillow.fromarray(before).save(picture)
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    repair = said(
        capsys, "inpaint", picture, "--mask", tmp_path / "mask.png", "--prompt", PROMPTS[0], *options,
        "--steps", 2, "--candidates", 1, "--out", tmp_path / "repair",
    )["runs"][0]  # fmt: skip
    after = np.asarray(Pillow.open(repair["output"]))
    support = np.asarray(Pillow.open(repair["support"])) > 0
    assert support[mask > 0].all() and not support[0].any()
    assert np.array_equal(after[~support], before[~support])
    assert (after[mask > 0] != before[mask > 0]).mean() > 0.5


def test_both_loops_use_weights_that_were_loaded_once(checkpoints, own_painters, monkeypatch):
    import diffusers

    loads, load = [], diffusers.DiffusionPipeline.from_pretrained.__func__

    def counted(cls, folder, **options):
        loads.append(cls.__name__)
        return load(cls, folder, **options)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", classmethod(counted))
    assemble, folder = own_painters, str(checkpoints("sdxl"))
    before = assemble.SHELF.loads.copy()
    generator = assemble.regeneration_tools("tabletop", path=folder, steps=1).generator
    inpainter = assemble.inpainting_tools("tabletop", path=folder).inpainter
    assert loads == ["StableDiffusionXLPipeline"]
    assert pipelines(assemble.SHELF.loads - before) == [folder]
    assert inpainter.pipeline.unet is generator.pipeline.unet
    assert inpainter.pipeline.vae is generator.pipeline.vae


def test_an_inpainter_of_its_own_is_loaded_without_the_generator(checkpoints, tmp_path, own_painters):
    path = tmp_path / "two.toml"
    text = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")
    text = text.replace("tabletop/weights", str(CHECKOUT / "tabletop" / "weights"))
    bundled = str(CHECKOUT / "tabletop" / "weights" / "inpainter")
    path.write_text(text.replace(bundled, str(checkpoints("sdxl-inpainting")), 1))
    before = own_painters.SHELF.loads.copy()
    tools = own_painters.inpainting_tools(str(path))
    loaded = own_painters.SHELF.loads - before
    assert pipelines(loaded) == [str(checkpoints("sdxl-inpainting"))]
    assert tools.inpainter.pipeline.unet.config.in_channels == 9
    assert tools.modifier.fits("a red cone") and not tools.modifier.fits("cone " * 30)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nowhere/at/all", "weights are missing in"),
        (".", "model_index.json is missing"),
    ],
)
def test_what_is_no_pipeline_is_one_line(given, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["regenerate", "a cone", "--generator", given, "--no-prefect"]) == 1
    error = capsys.readouterr().err.strip()
    assert told in error and "\n" not in error and "Traceback" not in error


def test_a_name_on_the_hub_without_a_network_says_what_to_do(tmp_path, monkeypatch, capsys):
    import huggingface_hub

    def unreachable(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert main(["regenerate", "a cone", "--generator", "org/no-such-name", "--no-prefect"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "hf download org/no-such-name" in error and "no route to host" in error


def test_a_painter_of_another_size_than_its_cells_is_one_line(checkpoints, tmp_path, capsys):
    words = ["regenerate", "a cone", "--generator", checkpoints("sd3"), "--width", 33, "--height", 33]
    assert main([*map(str, words), "--steps", "1", "--no-prefect", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and "33" in error


def test_a_steps_option_out_of_range_is_one_line(capsys):
    assert main(["regenerate", "a cone", "--steps", "0"]) == 1
    assert "--steps is 0" in capsys.readouterr().err
    with pytest.raises(InvalidInput):
        from flows.profiles.loading import changed_generator, load_profile

        changed_generator(load_profile("tabletop"), {"height": 0})
