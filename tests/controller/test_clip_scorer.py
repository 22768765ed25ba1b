import json

import numpy as np
import pytest

from contracts.errors import CheckpointError, InvalidInput, ModelError
from controller.checkpoints import weights_digest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SIZES = [(32, 32), (64, 64), (20, 48), (50, 31), (1, 7)]
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8) for i, (h, w) in enumerate(SIZES)
]
PROMPTS = ["a red cone", "a blue ball on the table", "zebra 🎨", "a cone " * 40, "ball"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_checkpoints import save_clip

    return save_clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture
def copy(tmp_path):
    """A checkpoint that a test may change."""
    from tiny_checkpoints import save_clip

    return save_clip(tmp_path / "copy")


def load(folder, name="taste", **options):
    from controller.scorers.clip import load_clip

    return load_clip(folder, name, **options)


def test_the_value_is_the_cosine_of_the_two_features(folder):
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    from controller.scorers.preprocessing import Preprocessing

    model = CLIPModel.from_pretrained(folder)
    tokens = CLIPTokenizer.from_pretrained(folder)(
        PROMPTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        output = model(input_ids=tokens["input_ids"], pixel_values=Preprocessing.load(folder)(IMAGES))
    expected = (output.image_embeds * output.text_embeds).sum(-1).numpy()
    scores = load(folder).score(IMAGES, PROMPTS)
    np.testing.assert_allclose([s.value for s in scores], expected, atol=2e-6)
    assert all(-1 <= s.value <= 1 for s in scores) and len({s.value for s in scores}) == 5


def test_scores_do_not_depend_on_the_batch(folder):
    scorer = load(folder)
    together = scorer.score(IMAGES, PROMPTS)
    apart = [load(folder).score([i], [p])[0] for i, p in zip(IMAGES, PROMPTS, strict=True)]
    assert together == apart == load(folder, batch_size=2).score(IMAGES, PROMPTS)
    assert scorer.score(IMAGES[::-1], PROMPTS[::-1]) == together[::-1]
    assert scorer.score([], []) == []


def test_scores_are_signed_with_name_and_weights(folder, tmp_path):
    from tiny_checkpoints import save_clip

    one, other = load(folder, "taste"), load(save_clip(tmp_path / "other", seed=1), "other")
    (score,), (second,) = one.score(IMAGES[:1], PROMPTS[:1]), other.score(IMAGES[:1], PROMPTS[:1])
    assert (score.name, second.name) == ("taste", "other") and score.version != second.version
    weights = weights_digest(folder)
    signed = f"clip; weights={weights}; size=32; fit=longest; antialias=true; dtype=float32"
    assert score.version == signed
    assert one.describe() == {
        "name": "taste",
        "kind": "clip",
        "release": "",
        "weights": weights,
        "size": 32,
        "fit": "longest",
        "antialias": True,
        "dtype": "float32",
        "version": signed,
    }
    json.dumps(dict(one.describe()))


def test_a_long_side_is_padded_with_black_or_cut_to_the_center():
    from controller.scorers.preprocessing import Preprocessing

    image = np.full((10, 20, 3), 255, np.uint8)
    image[:, :5] = 0
    plain = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    padded = Preprocessing(20, "longest", True, *plain)([image])[0]
    assert padded.shape == (3, 20, 20)
    assert not padded[:, :5].any() and not padded[:, 15:].any() and padded[:, 5:15, 5:].min() == 1
    cut = Preprocessing(10, "shortest", True, *plain)([image])[0]
    assert cut.shape == (3, 10, 10) and cut.min() == 1


def test_mean_and_std_are_applied_after_padding():
    from controller.scorers.preprocessing import Preprocessing

    prepare = Preprocessing(4, "longest", True, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    made = prepare([np.full((2, 4, 3), 255, np.uint8)])[0]
    assert made[:, 0, 0].tolist() == [-1.0, -1.0, 0.0] and made[:, 1, 0].tolist() == [1.0, 3.0, 1.0]


def test_antialias_is_an_option_of_the_checkpoint(tmp_path):
    from tiny_checkpoints import save_clip

    smooth, rough = save_clip(tmp_path / "a"), save_clip(tmp_path / "b", antialias=False)
    assert load(rough).describe()["antialias"] is False
    large = [np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)]
    assert load(smooth).score(large, ["a cone"]) != load(rough).score(large, ["a cone"])


def test_a_prompt_is_encoded_once_and_the_memory_of_prompts_is_bounded(folder, monkeypatch):
    from controller.scorers import cosine

    monkeypatch.setattr(cosine, "REMEMBERED", 2)
    scorer, calls = load(folder), []
    encode = scorer._model.text_model.forward
    monkeypatch.setattr(
        scorer._model.text_model, "forward", lambda *a, **k: (calls.append(1), encode(*a, **k))[1]
    )
    scorer.score(IMAGES[:2], ["a cone", "a cone"])
    assert len(calls) == 1
    scorer.score(IMAGES[:3], ["ball", "table", "red"])
    assert len(calls) == 4 and len(scorer._texts) == 2


def test_one_prompt_per_image(folder):
    with pytest.raises(InvalidInput, match="2 images and 1 prompts"):
        load(folder).score(IMAGES[:2], PROMPTS[:1])


def test_a_damaged_model_is_an_error_and_no_score(folder):
    scorer = load(folder)
    scorer._model.visual_projection.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="taste"):
        scorer.score(IMAGES[:1], PROMPTS[:1])


def drop_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change(name, *keys, value):
    def apply(folder):
        path = folder / name
        data = json.loads(path.read_text())
        inner = data
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path.write_text(json.dumps(data))

    return apply


def cut(**values):
    def apply(folder):
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "size": 32, **values}))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot be loaded"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
        (lambda folder: (folder / "preprocessor_config.json").write_text("{}"), "preprocessor_config.json"),
        (change("preprocessor_config.json", "size", value={"longest_edge": 16}), "sees 32 px"),
        (change("preprocessor_config.json", "resample", value=2), "resampling 2"),
        (cut(crop_size={"height": 24, "width": 24}), "only the whole square"),
        (cut(crop_size=24), "only the whole square"),
        (cut(antialias=False), "without antialias"),
        (change("config.json", "text_config", "eos_token_id", value=3), "reads a text at token 3"),
        (drop_a_tensor, "lacks 1 tensors: visual_projection.weight"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_in_one_line(copy, damage, message):
    damage(copy)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(copy)
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_pickle_alone_scores_the_same(folder, copy):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    ours, theirs = load(folder).score(IMAGES, PROMPTS), load(copy).score(IMAGES, PROMPTS)
    np.testing.assert_allclose([s.value for s in ours], [s.value for s in theirs], atol=2e-6)
    assert ours[0].version != theirs[0].version


def test_torchvision_is_not_needed(folder):
    import sys

    load(folder).score(IMAGES[:1], PROMPTS[:1])
    assert "torchvision" not in sys.modules
