"""`from controller import regenerate, inpaint`: the loops as programs call them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inpainting_samples import bank_at, inpainting_tools, settings
from loop_samples import DictBank, contents, scripted_tools
from PIL import Image as Pillow
from red_squares import picture

import controller
from contracts.errors import InvalidInput
from contracts.records import Round, Run
from controller import Result, Studio, inpaint, regenerate
from controller.regeneration import Case, RegenerationSettings
from controller.regeneration import regenerate as loop

FLAWED = picture((4, 4, 8, 8))


def scripted_studio(bank=None) -> Studio:
    tools = scripted_tools()
    return Studio(
        bank or DictBank(),
        lambda: (tools, RegenerationSettings(rounds=3)),
        lambda: pytest.fail("not asked for"),
    )


@pytest.fixture
def repairs(tmp_path) -> Studio:
    tools = inpainting_tools()
    return Studio(bank_at(tmp_path), lambda: pytest.fail("not asked for"), lambda: (tools, settings()))


def test_one_prompt_gives_one_result() -> None:
    studio = scripted_studio()
    result = regenerate("a red cone", studio, seed=7)
    assert result.run.status == "finished" and result.run.prompt == "a red cone" and result.run.seed == 7
    assert np.array_equal(result.image, studio.bank.image(result.run.best.image))


def test_several_prompts_give_the_results_of_each_alone() -> None:
    together = regenerate(["a red cone", "a blue cube"], scripted_studio(), seed=7, run_id="pair")
    assert [result.run.run_id for result in together] == ["pair-1", "pair-2"]
    alone = regenerate("a blue cube", scripted_studio(), seed=7)
    assert np.array_equal(together[1].image, alone.image)
    assert regenerate([], scripted_studio()) == []


def test_it_is_the_loop_itself() -> None:
    studio, bank = scripted_studio(), DictBank()
    mine = regenerate("a red cone", studio, seed=3, run_id="same", rounds=2)
    loops = loop([Case("same", "a red cone", 3)], scripted_tools(), bank, RegenerationSettings(rounds=2))
    assert contents([mine.run], studio.bank) == contents(loops, bank)


def test_a_call_with_the_same_id_goes_on_where_it_stood() -> None:
    bank = DictBank()
    bank.interrupt_after = 5
    with pytest.raises(KeyboardInterrupt):
        regenerate("a red cone", scripted_studio(bank), run_id="mine")
    bank.interrupt_after = None
    again = regenerate("a red cone", scripted_studio(bank), run_id="mine")
    whole = scripted_studio()
    assert contents([again.run], bank) == contents(
        [regenerate("a red cone", whole, run_id="mine").run], whole.bank
    )


def test_settings_take_the_place_of_the_studios() -> None:
    assert len(regenerate("a red cone", scripted_studio(), rounds=1).run.rounds) == 1
    with pytest.raises(TypeError, match="round_count"):
        regenerate("a red cone", scripted_studio(), round_count=1)
    with pytest.raises(InvalidInput, match="rounds"):
        regenerate("a red cone", scripted_studio(), rounds=0)
    with pytest.raises(InvalidInput, match="the prompt is empty"):
        regenerate(" ", scripted_studio())


def test_events_are_told() -> None:
    heard = []
    regenerate("a red cone", scripted_studio(), on_event=heard.append)
    assert heard


def test_a_picture_is_repaired_and_nothing_else_changes(repairs) -> None:
    result = inpaint(FLAWED, repairs, "a gray wall", seed=7)
    changed = (result.image != FLAWED).any(axis=2)
    assert changed.any() and not (changed & ~result.run.support).any()


def test_pillow_pictures_and_arrays_are_the_same(repairs) -> None:
    array = inpaint(FLAWED, repairs, seed=7)
    opened = inpaint(Pillow.fromarray(FLAWED), repairs, seed=7)
    assert array.run.run_id != opened.run.run_id
    assert np.array_equal(array.image, opened.image)


def test_masks_say_what_may_change_and_what_may_not(repairs) -> None:
    both = picture((4, 4, 8, 8), (20, 20, 26, 25))
    left = np.zeros(both.shape[:2], bool)
    left[:, :14] = True
    free = inpaint(both, repairs, "a gray wall")
    assert (free.image != both).any(axis=2)[20:25, 20:26].any()
    for mask in (left, Pillow.fromarray((left * 255).astype(np.uint8))):
        guarded = inpaint(both, repairs, "a gray wall", protect=mask)
        assert not (guarded.image != both).any(axis=2)[left].any()
        masked = inpaint(both, repairs, "a gray wall", mask=mask)
        assert not (masked.image != both).any(axis=2)[~left].any()


def test_a_picture_is_turned_upright(repairs) -> None:
    turned = Pillow.fromarray(FLAWED)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.info["exif"] = exif.tobytes()
    result = inpaint(turned, repairs, seed=7)
    assert np.array_equal(repairs.bank.image(result.run.rounds[0].image), np.rot90(FLAWED, 2))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Pillow.new("RGBA", (8, 8)), "has transparency"),
        (Pillow.new("I;16", (8, 8)), "more than 8 bits"),
        ("photo.png", "a str is no picture: open a file with PIL.Image.open"),
        (np.zeros((8, 8), np.uint8), "cannot be repaired: use uint8"),
        (np.zeros((8, 8, 3)), "cannot be repaired: use uint8"),
    ],
)
def test_what_is_no_picture_is_refused(repairs, wrong, told) -> None:
    with pytest.raises(InvalidInput, match=told):
        inpaint(wrong, repairs)
    assert not repairs.bank.runs()


def test_a_result_is_written_in_the_format_of_its_ending(tmp_path) -> None:
    result = regenerate("a red cone", scripted_studio())
    result.save(tmp_path / "cone.png")
    assert np.array_equal(np.asarray(Pillow.open(tmp_path / "cone.png")), result.image)
    for path in (tmp_path / "cone.nothing", tmp_path / "missing" / "cone.png"):
        with pytest.raises(InvalidInput, match="cannot be written"):
            result.save(path)


def test_a_run_without_a_picture_says_so() -> None:
    run = Run("empty", "regeneration", "a red cone", 0, {}, "running", "", (Round(1, "a red cone", 1),))
    with pytest.raises(InvalidInput, match="run empty has no picture"):
        _ = Result(run, DictBank()).image


def test_the_room_is_light_until_a_loop_is_asked_for() -> None:
    assert set(controller.__all__) == {"Result", "Studio", "inpaint", "regenerate"}
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = controller.paint
    code = "import controller, sys; assert 'numpy' not in sys.modules;"
    code += "from controller import regenerate, inpaint;"
    code += "print([name for name in ('torch', 'prefect', 'diffusers') if name in sys.modules])"
    root = Path(controller.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
