import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from controller.prompt_rules import MAX_CHARACTERS, clean_prompt, read_prompts_file


@pytest.mark.parametrize(
    "prompt",
    [
        "a red cone",
        "🎨",
        "👩\u200d🚀 on the moon",
        "赤い円錐",
        "مخروط أحمر",
        "हिन्दी शंकु",
        "#hashtag",
        "x" * MAX_CHARACTERS,
        "{{x}} %s \\n",
    ],
)
def test_any_language_and_symbol_is_welcome(prompt):
    assert clean_prompt(prompt) == prompt


@pytest.mark.parametrize("prompt", ["", " ", "\n\t ", "\x00\x07", "\u200b", "\u3000", "\ufeff"])
def test_a_prompt_without_anything_visible_is_refused(prompt):
    with pytest.raises(InvalidInput, match="the prompt is empty"):
        clean_prompt(prompt)


def test_too_long_a_prompt_is_refused_with_the_limit():
    with pytest.raises(InvalidInput, match="4,001 characters, the limit is 4,000"):
        clean_prompt("x" * 4001)


def test_control_characters_go_and_line_breaks_become_spaces():
    assert clean_prompt("\x1b[31ma red\tcone\r\non\x00 a table\x7f \n") == "[31ma red cone  on a table"


def test_bytes_that_were_not_text_are_refused():
    with pytest.raises(InvalidInput, match="UTF-8"):
        clean_prompt("a cone \udcff")


@given(st.text())
def test_a_clean_prompt_is_clean(text):
    try:
        cleaned = clean_prompt(text)
    except InvalidInput as error:
        assert "\n" not in str(error)
    else:
        assert cleaned == clean_prompt(cleaned) and "\x00" not in cleaned and "\n" not in cleaned


def write(tmp_path, content: bytes):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    return path


def test_a_file_holds_one_prompt_per_line(tmp_path):
    path = write(tmp_path, "\ufeff# shapes\na red cone\r\n\n  # more\n 赤い円錐 \n\x85a ball".encode())
    assert read_prompts_file(path) == ["a red cone", "赤い円錐", "a ball"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a cone\n\na b\xffll\n", "line 3: byte 4 is not UTF-8"),
        ("a cone".encode("utf-16"), "line 1: byte 1 is not UTF-8"),
        (b"a cone\n\x07\n", "line 2: the prompt is empty"),
        (b"x\n" + b"y" * 5000, "line 2: the prompt has 5,000"),
        (b"", "holds no prompt"),
        (b"# only\n\n# comments", "holds no prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_with_its_place(tmp_path, content, message):
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        read_prompts_file(write(tmp_path, content))
    assert "prompts.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_prompts_file(path)
