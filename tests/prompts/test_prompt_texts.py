import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prompts
from contracts.errors import InvalidInput
from prompts.templates import fill

ANALYSIS = (
    "Please provide a detailed analysis of artifacts in this photo, considering physical artifacts (e.g., "
    "optical display issues, violations of physical laws, and spatial/perspective errors), structural "
    "artifacts (e.g., deformed objects, asymmetry, or distorted text), and distortion artifacts (e.g., "
    "color/texture distortion, noise/blur, artistic style errors, and material misrepresentation). Output "
    "with interleaved segmentation masks for the corresponding parts of the answer."
)
REFLECTION = (
    "Could you provide a detailed analysis of artifacts in this photo? Please output with interleaved "
    "segmentation masks for the corresponding parts of the answer."
)


def test_the_instructions_legion_was_trained_with_are_kept_to_the_letter():
    assert prompts.render("legion/analysis") == ANALYSIS
    assert prompts.render("legion/reflection") == REFLECTION


def test_every_text_is_listed_and_has_its_own_digest():
    assert {"legion/analysis", "legion/reflection"} <= set(prompts.names())
    assert len({prompts.digest(name) for name in prompts.names()}) == len(prompts.names())


def test_an_unknown_text_is_named_with_its_neighbor():
    with pytest.raises(InvalidInput, match="'legion/analysys'.*'legion/analysis'"):
        prompts.render("legion/analysys")


@pytest.mark.parametrize(
    "name", ["../constraints/tabletop", "/etc/passwd", "", "legion", "legion/analysis.md"]
)
def test_only_listed_names_are_read(name):
    with pytest.raises(InvalidInput):
        prompts.render(name)


def test_a_variable_the_text_does_not_have_is_named():
    with pytest.raises(InvalidInput, match="'subject'"):
        prompts.render("legion/analysis", subject="a cone")


def test_a_missing_variable_is_named():
    with pytest.raises(InvalidInput, match="'color'"):
        fill("a {{color}} {{ shape }}", {"shape": "cone"}, "demo")


def test_values_are_inserted_once_and_not_read_again():
    values = {"first": "{{second}} \\1", "second": "x"}
    assert fill("{{first}} {{ second }} {{first}}", values, "demo") == "{{second}} \\1 x {{second}} \\1"


@given(st.text(), st.text())
def test_any_value_comes_through_unchanged(one, two):
    assert fill("[{{one}}|{{two}}]", {"one": one, "two": two}, "demo") == f"[{one}|{two}]"


def test_prompts_load_no_heavy_library():
    code = "import sys, prompts; prompts.load_lexicon('general'); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "diffusers", "prefect", "sqlalchemy"} & set(loaded)
