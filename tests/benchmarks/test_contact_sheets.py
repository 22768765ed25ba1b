"""What stands above a column of pictures is the whole prompt, beside no other's."""

import numpy as np
import pytest
from PIL import ImageFont

from benchmarks.contact_sheets import CELL, GAP, LABEL, sheet, wrapped

FONT = ImageFont.load_default(12)


@pytest.mark.parametrize(
    "prompt",
    [
        "a red cone on a wooden table",
        "a shiny orange cylinder and a shiny purple cylinder on a wooden table",
        "cone",
    ],
)
def test_prompts_are_wrapped_whole(prompt):
    lines = wrapped(prompt, FONT, CELL - 2 * GAP)
    assert " ".join(lines) == prompt
    assert all(FONT.getlength(line) <= CELL - 2 * GAP for line in lines)
    assert not any(
        FONT.getlength(f"{line} {after.split()[0]}") <= CELL - 2 * GAP
        for line, after in zip(lines, lines[1:], strict=False)
    )


def test_a_word_that_is_too_wide_has_a_line_of_its_own():
    assert wrapped("a " + "w" * 40 + " cone", FONT, 60) == ["a", "w" * 40, "cone"]


def test_columns_of_a_sheet_do_not_touch():
    picture = np.full((64, 64, 3), 120, np.uint8)
    page = np.asarray(sheet({"row": [picture] * 3}, ["a shiny yellow cylinder on a wooden table"] * 3))
    top = page.shape[0] - CELL
    head = page[:top].min(axis=(0, 2)) < 200
    between = [slice(LABEL + x * CELL - 2, LABEL + x * CELL + 2) for x in (1, 2)]
    assert head[LABEL:].any() and not any(head[place].any() for place in between)
    assert (page[top:, LABEL : LABEL + 3 * CELL] == 120).all()
