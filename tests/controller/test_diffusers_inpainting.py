import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import InpaintRequest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_checkpoints import save_pipeline

    return save_pipeline(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def inpainter(folder):
    return load(folder)


def load(folder, **options):
    from controller.generators.diffusers_inpainting import DiffusersInpainter

    return DiffusersInpainter.load(folder, **{"steps": 3, "guidance_scale": 2.0, **options})


def request(seed=1, width=64, height=64, box=(16, 16, 40, 32), **changes):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return replace(InpaintRequest(image, mask, "a red cone on the table", seed), **changes)


REQUESTS = [
    request(1),
    request(2**63 - 1, width=32, height=48, box=(0, 0, 8, 8)),
    request(3, negative_prompt="blue"),
    request(4, strength=0.5, prompt="a blue ball"),
    request(5, prompt="a blue ball"),
]


def equal(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def test_pictures_are_what_the_protocol_says(inpainter):
    images = inpainter.inpaint(REQUESTS)
    assert [image.shape for image in images] == [r.image.shape for r in REQUESTS]
    assert all(image.dtype == np.uint8 and image.std() > 1 for image in images)
    assert inpainter.inpaint([]) == []
    assert (inpainter.native_size, inpainter.alignment) == ((64, 64), 4)


def test_a_crop_is_the_same_alone_and_in_any_batch(inpainter, folder):
    together = inpainter.inpaint(REQUESTS)
    assert equal(together, [inpainter.inpaint([r])[0] for r in REQUESTS])
    assert equal(together[::-1], load(folder).inpaint(REQUESTS[::-1]))


def test_many_at_once_differ_by_rounding_at_most(inpainter, folder):
    batched = load(folder, exact=False, batch_size=4)
    for one, other in zip(batched.inpaint(REQUESTS), inpainter.inpaint(REQUESTS), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_prompt_seed_strength_negative_prompt_and_mask_all_count(inpainter):
    first = REQUESTS[0]
    wider = first.mask.copy()
    wider[:32] = True
    others = [
        replace(first, prompt="a blue ball"),
        replace(first, seed=9),
        replace(first, strength=0.5),
        replace(first, negative_prompt="wooden"),
        replace(first, mask=wider),
    ]
    base = inpainter.inpaint([first])[0]
    assert not any(np.array_equal(base, image) for image in inpainter.inpaint(others))


def test_latents_outside_the_mask_are_the_crops_own(inpainter):
    """With an empty mask nothing is painted, so the prompt does not matter."""
    empty = request(1, box=(0, 0, 0, 0), prompt="a blue ball")
    decoded, other = inpainter.inpaint([empty, replace(empty, prompt="natural shadow")])
    assert np.array_equal(decoded, other)


def test_a_single_pixel_of_the_mask_has_its_whole_cell_painted(inpainter):
    one_pixel = request(1, box=(19, 19, 20, 20))
    assert np.array_equal(
        np.argwhere(inpainter._whole_cells(one_pixel.mask)),
        np.argwhere(request(1, box=(16, 16, 20, 20)).mask),
    )
    none = inpainter.inpaint([request(1, box=(0, 0, 0, 0))])[0]
    assert not np.array_equal(inpainter.inpaint([one_pixel])[0], none)


def test_it_paints_with_the_generators_own_weights(folder, inpainter):
    from controller.generators.diffusers_inpainting import DiffusersInpainter
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    generator = DiffusersGenerator.load(folder, steps=3, guidance_scale=2.0)
    shared = DiffusersInpainter.share(generator)
    assert shared.pipeline.unet is generator.pipeline.unet and shared.pipeline.vae is generator.pipeline.vae
    assert shared.describe() == inpainter.describe()
    assert equal(shared.inpaint(REQUESTS[:1]), inpainter.inpaint(REQUESTS[:1]))
    other = DiffusersInpainter.share(generator, steps=5, guidance_scale=0, exact=False).describe()
    assert (other["num_inference_steps"], other["guidance_scale"], other["exact"]) == (5, 0, False)


def test_a_pipeline_that_cannot_inpaint_is_refused_in_one_line(folder):
    from controller.generators.diffusers_inpainting import DiffusersInpainter
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    generator = DiffusersGenerator.load(folder)
    generator.loan.shelf.get = lambda key, load: object()
    generator.loan.shelf.view = lambda key, load, name, make: make(object())
    with pytest.raises(CheckpointError, match="tiny cannot inpaint") as caught:
        DiffusersInpainter.share(generator)
    assert "\n" not in str(caught.value)


def test_the_description_is_data(inpainter):
    described = dict(inpainter.describe())
    json.dumps(described)
    assert described["pipeline"] == "StableDiffusionInpaintPipeline"
    assert (described["num_inference_steps"], described["guidance_scale"]) == (3, 2.0)
    assert described["exact"] is True and described["name"] == "tiny" and described["digest"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"strength": 0}, "above 0 up to 1"),
        ({"strength": 1.5}, "above 0 up to 1"),
        ({"strength": float("nan")}, "above 0 up to 1"),
        ({"strength": 0.3}, "at least 0.34"),
        ({"mask": np.ones((32, 64), bool)}, "uint8"),
        ({"image": np.zeros((64, 64, 3))}, "uint8"),
        ({"image": np.zeros((62, 64, 3), np.uint8), "mask": np.ones((62, 64), bool)}, "multiples of 4"),
    ],
)
def test_requests_that_cannot_be_painted_are_refused_before_any_painting(inpainter, wrong, says):
    with pytest.raises(InvalidInput, match=says):
        inpainter.inpaint([replace(REQUESTS[0], **wrong)])


@pytest.mark.parametrize("option", [{"steps": 0}, {"guidance_scale": -1}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(folder, option):
    with pytest.raises(InvalidInput):
        load(folder, **option)


def test_broken_numbers_and_failures_become_one_line(folder):
    broken = load(folder)
    broken._options["guidance_scale"] = "much"
    with pytest.raises(ModelError, match="tiny failed while painting"):
        broken.inpaint(REQUESTS[:1])
    broken = load(folder)
    broken.pipeline.unet.conv_out.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        broken.inpaint(REQUESTS[:1])


def test_a_prompt_beyond_the_text_encoder_is_painted_with_a_warning(inpainter, caplog):
    with caplog.at_level(logging.WARNING, logger="controller"):
        inpainter.inpaint([replace(REQUESTS[0], prompt=" ".join(["ball"] * 20))])
    assert "22 tokens" in caplog.text
    assert inpainter.fits("a ball") and not inpainter.fits(" ".join(["ball"] * 20))
