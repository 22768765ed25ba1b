"""HPSv2, ImageReward, CLIPScore and PickScore from small checkpoints in their published layouts."""

import io
import json
import math
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from contracts.errors import CheckpointError, InvalidInput, ModelError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SIZES = [(64, 64), (90, 50), (31, 200)]
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8) for i, (h, w) in enumerate(SIZES)
]
PROMPTS = ["a red cone", "a blue ball on the table", "ball"]


def load(kind, path, name="taste", **options):
    from controller.scorers.kinds import load_scorer

    return load_scorer(kind, path, name, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint of every kind."""
    from tiny_checkpoints import save_clip
    from tiny_scorers import save_hps, save_imagereward

    root = tmp_path_factory.mktemp("scorers")
    openai = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    clip = save_clip(root / "clip", **openai)
    return {
        "clip": clip,
        "clipscore": clip,
        "pickscore": clip,
        "hpsv2": save_hps(root / "hps"),
        "imagereward": save_imagereward(root / "imagereward"),
    }


KINDS = ["clip", "clipscore", "pickscore", "hpsv2", "imagereward"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_scorers_promises(files, kind):
    scorer = load(kind, files[kind])
    together = scorer.score(IMAGES, PROMPTS)
    apart = [scorer.score([i], [p])[0] for i, p in zip(IMAGES, PROMPTS, strict=True)]
    assert together == apart and scorer.score([], []) == []
    assert len({score.value for score in together}) == 3
    described = scorer.describe()
    json.dumps(dict(described))
    assert described["kind"] == kind and described["name"] == "taste"
    for score in together:
        assert (score.name, score.version) == ("taste", described["version"])
    assert score.version.startswith(kind) and f"weights={described['weights']}" in score.version
    assert "dtype=float32" in score.version and "size=" in score.version
    with pytest.raises(InvalidInput, match="3 images and 2 prompts"):
        scorer.score(IMAGES, PROMPTS[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_close_and_another_version(files, kind):
    full, half = load(kind, files[kind]), load(kind, files[kind], dtype="bfloat16")
    ours, theirs = full.score(IMAGES, PROMPTS), half.score(IMAGES, PROMPTS)
    near = {"pickscore": 0.3, "imagereward": 0.05}.get(kind, 0.02)  # exp(logit scale) is 14 here
    for one, other in zip(ours, theirs, strict=True):
        assert one.version != other.version and "dtype=bfloat16" in other.version
        assert abs(one.value - other.value) < near


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype 'float8' is not known"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ({"device": "toaster"}, "device 'toaster' cannot be used here"),
        ({"batch_size": 0}, "batch size 0"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(files, kind, options, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        load(kind, files[kind], **options)
    assert "\n" not in str(caught.value)


def test_clipscore_and_pickscore_follow_from_the_cosine(files):
    import torch
    from transformers import CLIPModel

    texts = [f"A photo depicts {prompt}" for prompt in PROMPTS]
    plain = load("clip", files["clip"])
    cosines = [score.value for score in plain.score(IMAGES, PROMPTS)]
    scale = float(CLIPModel.from_pretrained(files["clip"]).logit_scale.detach().exp())
    picked = [score.value for score in load("pickscore", files["clip"]).score(IMAGES, PROMPTS)]
    np.testing.assert_allclose(picked, [scale * cosine for cosine in cosines], atol=1e-4)
    prefixed = [score.value for score in plain.score(IMAGES[:1] * 3, texts)]
    clipscores = [score.value for score in load("clipscore", files["clip"]).score(IMAGES[:1] * 3, PROMPTS)]
    np.testing.assert_allclose(clipscores, [2.5 * max(cosine, 0) for cosine in prefixed], atol=1e-5)
    from controller.scorers.cosine import Formula

    assert Formula(2.5, 0.0)(torch.tensor([-0.5, 0.2])).tolist() == pytest.approx([0, 0.5])


def test_antialias_changes_hpsv2_and_its_version(files):
    smooth, rough = load("hpsv2", files["hpsv2"]), load("hpsv2", files["hpsv2"], antialias=False)
    ours, theirs = smooth.score(IMAGES, PROMPTS), rough.score(IMAGES, PROMPTS)
    assert "antialias=true" in ours[0].version and "antialias=false" in theirs[0].version
    assert [s.value for s in ours] != [s.value for s in theirs]
    assert ours[0].version.startswith("hpsv2 v2.1;")


def test_hpsv2_reads_safetensors_too_and_signs_other_weights_otherwise(files, tmp_path):
    from safetensors.torch import save_file
    from tiny_scorers import save_hps, weights_of

    weights = {name: tensor.half() for name, tensor in weights_of("hps_tiny_openclip").items()}
    other = save_hps(tmp_path / "other", name="HPS_v2_compressed.pt")
    save_file(weights, other.parent / "hps.safetensors")
    pickled, plain = load("hpsv2", other), load("hpsv2", other.parent / "hps.safetensors")
    values = [[s.value for s in scorer.score(IMAGES, PROMPTS)] for scorer in (pickled, plain)]
    assert values[0] == values[1]
    assert pickled.describe()["release"] == "v2.0" and plain.describe()["release"] == ""
    assert pickled.describe()["weights"] != plain.describe()["weights"]


@pytest.mark.parametrize(
    ("kind", "mended"), [("hpsv2", True), ("clipscore", True), ("pickscore", False), ("clip", False)]
)
def test_a_prompt_is_mended_where_the_original_does_it(files, kind, mended):
    with_entity, plain = "&amp;amp; ball", "&  BALL"  # short: the small model reads few tokens
    tokenize = load(kind, files[kind])._tokenize
    assert (tokenize(with_entity) == tokenize(plain)) is mended


def test_pictures_are_cut_where_the_original_cuts_them(files):
    cuts = {kind: load(kind, files[kind]).describe().get("center") for kind in KINDS}
    assert cuts == {
        "clip": "floor",
        "clipscore": "even",
        "pickscore": "floor",
        "hpsv2": None,
        "imagereward": "even",
    }


@pytest.mark.parametrize(("kind", "limit"), [("hpsv2", 75), ("imagereward", 33)])
def test_a_prompt_that_is_too_long_is_cut_and_said_once(files, kind, limit, caplog):
    scorer = load(kind, files[kind])
    long, longer = "ball " * 100, "ball " * 100 + "cone"
    with caplog.at_level("WARNING"):
        one, other = scorer.score(IMAGES[:1] * 2, [long, longer])
        scorer.score(IMAGES[:1], [long])
    assert one == other
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and f"reads the first {limit} of 100 tokens" in said[0]


def test_imagereward_pads_masks_and_normalizes(files):
    import torch

    from controller.scorers.preprocessing import Preprocessing
    from controller.scorers.tensors import read_tensors

    scorer = load("imagereward", files["imagereward"])
    words = (files["imagereward"].parent / "vocab.txt").read_text().split()
    tokens = [words.index(word) for word in ("[CLS]", "a", "red", "cone", "##s", "[SEP]")]
    ids, mask = torch.zeros(1, 35, dtype=torch.long), torch.zeros(1, 35, dtype=torch.long)
    ids[0, :6], mask[0, :6] = torch.tensor(tokens), 1
    pixels = Preprocessing(48, "shortest", center="even")(IMAGES[1:2])
    with torch.inference_mode():
        raw = float(scorer._network(pixels, ids, mask))
    (score,) = scorer.score(IMAGES[1:2], ["A red  cones"])
    assert score.value == pytest.approx((raw - 0.16717362830052426) / 1.0333394966054072, abs=2e-6)
    assert len(read_tensors(files["imagereward"])) == len(scorer._network.state_dict()) + 5


def test_imagereward_reads_the_prompt_and_the_whole_table_of_weights(files):
    scorer = load("imagereward", files["imagereward"])
    one, other = scorer.score(IMAGES[:1] * 2, ["a red cone", "a blue ball"])
    assert one.value != other.value
    head = scorer._network.head[4].bias.data
    head += 1
    moved = scorer.score(IMAGES[:1], ["a red cone"])[0].value
    assert moved - one.value == pytest.approx(1 / 1.0333394966054072, abs=2e-6)


def renamed(weights, old, new):
    return OrderedDict((new if name == old else name, tensor) for name, tensor in weights.items())


def without(weights, *names):
    return OrderedDict((name, tensor) for name, tensor in weights.items() if name not in names)


def test_a_renamed_tensor_is_named_by_its_old_and_new_name(tmp_path):
    from tiny_scorers import save_hps, save_imagereward, weights_of

    weights = weights_of("hps_tiny_openclip")
    old = "visual.transformer.resblocks.1.attn.in_proj_weight"
    path = save_hps(tmp_path / "hps", renamed(weights, old, "visual.blocks.1.qkv"))
    with pytest.raises(CheckpointError, match=f"1 missing: {old}; 1 unknown: visual.blocks.1.qkv$"):
        load("hpsv2", path)
    weights = weights_of("imagereward_tiny")
    path = save_imagereward(tmp_path / "ir", renamed(weights, "mlp.layers.7.bias", "mlp.layers.8.bias"))
    with pytest.raises(
        CheckpointError, match=r"1 missing: mlp\.layers\.7\.bias; 1 unknown: mlp\.layers\.8\.bias$"
    ):
        load("imagereward", path)


def test_missing_tensors_are_listed_together_and_a_flood_is_counted(tmp_path):
    from tiny_scorers import save_hps, weights_of

    weights = weights_of("hps_tiny_openclip")
    path = save_hps(tmp_path / "two", without(weights, "ln_final.bias", "visual.proj"))
    with pytest.raises(CheckpointError, match="2 missing: ln_final.bias, visual.proj$") as caught:
        load("hpsv2", path)
    assert "\n" not in str(caught.value)
    text_only = without(weights, *(name for name in weights if name.startswith("visual.")))
    path = save_hps(tmp_path / "many", text_only)
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more$"):
        load("hpsv2", path)


def test_a_tensor_of_another_shape_is_shown_with_both_shapes(tmp_path):
    from tiny_scorers import save_hps, weights_of

    weights = weights_of("hps_tiny_openclip")
    weights["visual.conv1.weight"] = weights["visual.conv1.weight"][..., :7, :7].clone()
    with pytest.raises(CheckpointError, match=r"visual\.conv1\.weight .*40x3x7x7.*40x3x14x14"):
        load("hpsv2", save_hps(tmp_path, weights))


def test_a_small_file_without_its_shape_is_no_official_one(files, tmp_path):
    path = tmp_path / "HPS_v2.1_compressed.pt"
    path.write_bytes(files["hpsv2"].read_bytes())
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load("hpsv2", path)
    assert len(str(caught.value)) < 4000 and "\n" not in str(caught.value)


def zip_without_weights():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return content.getvalue()


class Harmful:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize("kind", ["hpsv2", "imagereward"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder: name the file in it"),
        (lambda path: path.write_bytes(b""), "no file of weights"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "no file of weights"),
        (lambda path: path.write_bytes(zip_without_weights()), "cannot be read|was not opened"),
        (lambda path: path.write_bytes(pickle.dumps(Harmful())), "more than weights and was not opened"),
        (lambda path: save(path, {"state_dict": {}}), "no table of weights"),
        (lambda path: save(path, [1, 2]), "no table of weights"),
        (lambda path: save(path, {"epoch": 3, "text": "x"}), "no table of weights"),
        (lambda path: save(path, {"anything": one()}), "does not fit[,:] (none of its|it lacks)"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_one_line(
    files, tmp_path, kind, content, message, capsys
):
    for beside in files[kind].parent.iterdir():
        if beside.suffix in (".json", ".txt"):
            (tmp_path / beside.name).write_bytes(beside.read_bytes())
    path = tmp_path / "weights.pt"
    content(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(kind, path)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def save(path, value):
    import torch

    torch.save(value, path)


def one():
    import torch

    return torch.ones(1)


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("hpsv2", "open_clip_config.json", "{}", "open_clip_config.json does not say"),
        ("hpsv2", "open_clip_config.json", '{"model_cfg": {}}', "open_clip_config.json does not say"),
        ("hpsv2", "tokenizer.json", "{", "vocabulary in .* cannot be read"),
        ("hpsv2", "tokenizer.json", None, "49408 tokens, its open_clip_config.json says 600"),
        ("imagereward", "med_config.json", "{}", "med_config.json does not say"),
        ("imagereward", "vocab.txt", None, "hf download google-bert/bert-base-uncased vocab.txt"),
        ("imagereward", "vocab.txt", "a\nb\n", r"no vocabulary of BERT: \[PAD\]"),
        (
            "imagereward",
            "vocab.txt",
            "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + "\n".join(f"w{i}" for i in range(200)),
            "207 tokens, the model knows 100",
        ),
    ],
)
def test_what_lies_beside_the_weights_is_checked(files, tmp_path, kind, name, content, message):
    for beside in files[kind].parent.iterdir():
        (tmp_path / beside.name).write_bytes(beside.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(kind, tmp_path / files[kind].name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["hpsv2", "imagereward"])
def test_damaged_weights_give_an_error_and_no_score(kind, tmp_path):
    import tiny_scorers

    fixture = {"hpsv2": "hps_tiny_openclip", "imagereward": "imagereward_tiny"}[kind]
    weights = tiny_scorers.weights_of(fixture)
    broken = "text_projection" if kind == "hpsv2" else "mlp.layers.0.weight"
    weights[broken].fill_(math.nan)
    write = {"hpsv2": tiny_scorers.save_hps, "imagereward": tiny_scorers.save_imagereward}[kind]
    with pytest.raises(ModelError, match="no number: its weights are damaged"):
        load(kind, write(tmp_path, weights)).score(IMAGES[:1], PROMPTS[:1])


def test_out_of_memory_means_smaller_batches_and_then_a_clear_error(files, caplog):
    import torch

    scorer = load("hpsv2", files["hpsv2"])
    expected, sizes, room = scorer.score(IMAGES, PROMPTS), [], 1
    honest = scorer._values

    def tight(images, prompts):
        sizes.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("full")
        return honest(images, prompts)

    scorer._values, scorer._batch_size = tight, 3
    assert scorer.score(IMAGES, PROMPTS) == expected
    assert sizes == [3, 1, 1, 1]
    scorer.score(IMAGES, PROMPTS)
    assert sizes[4:] == [1, 1, 1] and "batches of 1" in caplog.text
    room = 0
    with pytest.raises(ModelError, match="no memory for one picture on cpu"):
        scorer.score(IMAGES, PROMPTS)
