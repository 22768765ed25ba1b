import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import GenerationRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

PROMPTS = ["a red cone on the table", "a blue ball", "the ball on a cone, perfect shape", "zebra 🎨"]
REQUESTS = [GenerationRequest(p, seed) for p, seed in zip(PROMPTS, [1, 2**63 - 1, 0, 77], strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_checkpoints import save_pipeline

    return save_pipeline(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def generator(folder):
    return load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    """A checkpoint that a test may change."""
    return shutil.copytree(folder, tmp_path / "copy")


def load(folder, **options):
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    return DiffusersGenerator.load(folder, **{"steps": 3, "guidance_scale": 2.0, "batch_size": 4, **options})


def equal(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def test_pictures_are_what_the_protocol_says(generator):
    images = generator.generate(REQUESTS)
    assert all(image.dtype == np.uint8 and image.shape == (64, 64, 3) for image in images)
    assert len({image.tobytes() for image in images}) == 4
    assert all(image.std() > 1 for image in images)
    assert generator.generate([]) == []


def test_a_sample_is_the_same_alone_and_in_any_batch(generator):
    together = generator.generate(REQUESTS)
    assert equal(together, [generator.generate([request])[0] for request in REQUESTS])
    assert equal(together[::-1], generator.generate(REQUESTS[::-1]))
    assert equal(together[1:3], generator.generate(REQUESTS[1:3]))


def test_seed_and_prompt_decide_the_picture(generator):
    request = REQUESTS[0]
    first, again = generator.generate([request])[0], generator.generate([request])[0]
    other_seed = generator.generate([GenerationRequest(request.prompt, request.seed + 1)])[0]
    other_prompt = generator.generate([GenerationRequest("a blue ball", request.seed)])[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_seed) and not np.array_equal(first, other_prompt)


def test_a_negative_prompt_counts_and_does_not_touch_its_neighbors(generator):
    negative = GenerationRequest(REQUESTS[0].prompt, REQUESTS[0].seed, "a natural shadow")
    mixed = generator.generate([REQUESTS[1], negative, REQUESTS[0]])
    assert equal(mixed, [generator.generate([r])[0] for r in (REQUESTS[1], negative, REQUESTS[0])])
    assert not np.array_equal(mixed[1], mixed[2])


def test_batches_without_exactness_keep_the_order_and_differ_by_rounding_alone(folder, generator):
    expected = generator.generate(REQUESTS)
    for batch_size in (3, 4):
        images = load(folder, batch_size=batch_size, exact=False).generate(REQUESTS)
        for image, other in zip(images, expected, strict=True):
            difference = np.abs(image.astype(int) - other)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_the_pipeline_is_called_with_as_many_as_it_may_take(folder, monkeypatch):
    calls = []

    def counted(options):
        made = load(folder, **options)
        paint = made.batching.paint
        counting = lambda requests, kind, call: paint(requests, kind, Counted(call, calls))  # noqa: E731
        monkeypatch.setattr(made.batching, "paint", counting)
        made.generate(REQUESTS)
        counts = calls.copy()
        calls.clear()
        return counts

    assert counted({}) == [1, 1, 1, 1]
    assert counted({"exact": False, "batch_size": 3}) == [3, 1]


class Counted:
    """A model call, counted."""

    def __init__(self, inner, calls):
        self.inner, self.calls = inner, calls

    def __call__(self, requests):
        self.calls.append(len(requests))
        return self.inner(requests)


def test_steps_and_guidance_come_from_the_caller_then_the_folder_then_the_pipeline(copy):
    def options(**given):
        described = load(copy, **given).describe()
        return described["num_inference_steps"], described["guidance_scale"]

    assert options(steps=None, guidance_scale=None) == (50, 7.5)
    (copy / "legion_defaults.json").write_text('{"num_inference_steps": 4}')
    assert options(steps=None, guidance_scale=None) == (4, 7.5)
    assert options(steps=None, guidance_scale=1.5) == (4, 1.5)
    assert options(steps=2, guidance_scale=0) == (2, 0)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"steps": 3}', '{"num_inference_steps": 0}', '{"guidance_scale": "x"}']
)
def test_defaults_that_cannot_be_used_are_named(copy, text):
    (copy / "legion_defaults.json").write_text(text)
    with pytest.raises(CheckpointError, match="legion_defaults.json") as caught:
        load(copy)
    assert "\n" not in str(caught.value)


def test_options_change_the_picture(folder, generator):
    request = REQUESTS[:1]
    assert not equal(load(folder, steps=5).generate(request), generator.generate(request))
    assert not equal(load(folder, guidance_scale=5.0).generate(request), generator.generate(request))


def test_the_description_is_data_that_names_the_weights_and_not_their_place(generator, copy):
    described = dict(generator.describe())
    json.dumps(described)
    assert {k: described[k] for k in ("name", "dtype", "num_inference_steps", "guidance_scale")} == {
        "name": "tiny",
        "dtype": "float32",
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
    }
    moved = load(copy).describe()
    assert moved["digest"] == described["digest"] and moved["scheduler"] == "DDIMScheduler"
    assert str(copy) not in json.dumps(dict(moved))


def test_the_digest_follows_the_weights(copy):
    from safetensors.torch import load_file, save_file

    from controller.checkpoints import weights_digest

    before = weights_digest(copy)
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_in.bias"] = tensors["conv_in.bias"] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert weights_digest(copy) != before


def test_without_a_word_list_the_vocabulary_is_open(generator):
    assert generator.unknown_words("a zebra 🎨") == []


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("A red CONE, on the table.", []),
        ("a Zebra on a zebra", ["Zebra"]),
        ("a red-blue cone/ball (wooden)", []),
        ("two cones", ["two", "cones"]),
        ("a cone 🎨 赤い円錐!", ["🎨", "赤い円錐"]),
        ("...", []),
    ],
)
def test_words_the_model_was_never_taught_are_named_in_order(copy, prompt, unknown):
    from tiny_checkpoints import WORDS

    from controller.generators import diffusers_pipeline

    (copy / "tokenizer" / "known_words.txt").write_text("\n".join(WORDS))
    known = diffusers_pipeline._known_words(copy / "tokenizer" / "known_words.txt")
    assert diffusers_pipeline.words_not_in(known, prompt) == unknown


def test_the_word_list_is_found_in_the_tokenizers_folder(copy):
    (copy / "tokenizer" / "known_words.txt").write_text("a\nCone\n")
    assert load(copy).unknown_words("a cone, a ball") == ["ball"]


def test_a_prompt_beyond_the_text_encoder_is_painted_with_a_warning(generator, caplog):
    long = " ".join(["ball"] * 20)
    with caplog.at_level(logging.WARNING, logger="controller"):
        assert len(generator.generate([GenerationRequest(long, 1)])) == 1
    assert "22 tokens" in caplog.text and "reads 16" in caplog.text
    assert not generator.fits(long) and generator.fits(" ".join(["ball"] * 14))
    caplog.clear()
    generator.generate(REQUESTS[:1])
    assert not caplog.records


def test_nothing_is_printed(folder, capfd):
    load(folder).generate([GenerationRequest(" ".join(["ball"] * 20), 1)])
    captured = capfd.readouterr()
    assert "%|" not in captured.err and "truncated" not in captured.err and captured.out == ""


def test_a_folder_that_is_no_pipeline_is_refused_in_one_line(tmp_path, copy):
    with pytest.raises(CheckpointError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="model_index.json is missing"):
        load(tmp_path)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot be loaded") as caught:
        load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"steps": 0}, {"guidance_scale": -1}, {"batch_size": 0}, {"dtype": "int8"}]
)
def test_options_out_of_range_are_refused(folder, option):
    with pytest.raises(InvalidInput):
        load(folder, **option)


def test_broken_numbers_become_an_error_and_no_black_picture(copy):
    broken = load(copy)
    broken.pipeline.unet.conv_out.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        broken.generate(REQUESTS[:1])


def test_a_failure_inside_the_pipeline_is_one_line(folder):
    broken = load(folder)
    broken._options["guidance_scale"] = "much"
    with pytest.raises(ModelError, match="tiny failed while painting"):
        broken.generate(REQUESTS[:1])


def test_a_fresh_process_paints_without_a_remark(folder):
    code = (
        "import sys; from contracts.records import GenerationRequest as R\n"
        "from controller.generators.diffusers_pipeline import DiffusersGenerator\n"
        "DiffusersGenerator.load(sys.argv[1], steps=1).generate([R('a cone', 1)])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("", "")
