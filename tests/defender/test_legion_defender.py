"""Pictures in, findings out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.errors import InvalidInput, ModelError
from contracts.records import Diagnosis, Finding
from defender.answers import CLEAN_ANSWER, OPENING
from defender.checkpoint import Checkpoint, Thresholds
from defender.datasets import Collator, Sample
from defender.legion_defender import LegionDefender
from defender.model import Answers, Legion
from defender.text import Dialog

pytestmark = pytest.mark.slow

CONE = "<p> the red cone </p> [SEG] :"
ANSWER = f"{OPENING} {CONE} floats in the air. {CONE} floats too."


def finding(at, size):
    mask = np.zeros((size, size), dtype=bool)
    mask[at : at + 8, at : at + 8] = True
    return Finding(mask, "the red cone", "floats in the air", "physics", 1.0)


def make(model, dialog, **thresholds):
    return LegionDefender(Checkpoint(model, dialog, Thresholds(**thresholds), "digest"))


@pytest.fixture
def pictures():
    rng = np.random.default_rng(1)
    sizes = ((32, 32), (40, 25), (20, 64), (32, 32))
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture
def scripted(model, dialog, monkeypatch):
    """A model that answers every first picture of a batch with ANSWER and the others with CLEAN_ANSWER."""

    def generate(patches, prompt, branch=None):
        asked = len(dialog.prompt)
        said = [dialog.with_answer(a).ids[asked:] for a in [ANSWER] + [CLEAN_ANSWER] * (len(patches) - 1)]
        ids = torch.zeros(len(said), max(map(len, said)), dtype=torch.long)
        for row, answer in enumerate(said):
            ids[row, : len(answer)] = torch.tensor(answer)
        fixed = torch.Generator().manual_seed(0)
        states = torch.randn(2, dialog.config.language.hidden_size, generator=fixed)
        share = torch.full((len(said),), 0.9)
        return Answers(ids, torch.ones(ids.shape), share, states, torch.zeros(2, dtype=torch.long))

    monkeypatch.setattr(model, "generate", generate)
    return model


def same(a: Diagnosis, b: Diagnosis):
    assert a.answer == b.answer
    assert a.synthetic_probability == pytest.approx(b.synthetic_probability, abs=1e-5)
    assert len(a.findings) == len(b.findings)
    for x, y in zip(a.findings, b.findings, strict=True):
        assert (x.mask == y.mask).mean() > 0.999
        assert x.confidence == pytest.approx(y.confidence, abs=1e-4)


def test_a_diagnosis_does_not_depend_on_the_batch(model, dialog, pictures):
    defender = make(model, dialog)
    together = defender.diagnose(pictures)
    for alone, picture in zip(together, pictures, strict=True):
        same(alone, defender.diagnose([picture])[0])
    again = defender.diagnose(pictures[::-1])[::-1]
    for one, other in zip(together, again, strict=True):
        same(one, other)


def test_findings_keep_mask_phrase_and_explanation_together(scripted, dialog, pictures):
    defender = make(scripted, dialog, mask_probability=0.0)
    flawed, *clean = defender.diagnose(pictures)
    assert [(f.phrase, f.explanation) for f in flawed.findings] == [
        ("the red cone", "floats in the air."),
        ("the red cone", "floats too."),
    ]
    for found in flawed.findings:
        assert found.mask.shape == pictures[0].shape[:2] and found.mask.dtype == bool
        assert found.category == "physics"
        assert 0 < found.confidence <= 0.9
    assert all(d.findings == () and d.answer == CLEAN_ANSWER for d in clean)
    assert flawed.answer == ANSWER


def test_a_seg_spelled_from_letters_has_no_mask_and_does_no_harm(scripted, dialog, pictures, monkeypatch):
    usual = scripted.generate

    def generate(patches, prompt, branch=None):
        said = usual(patches, prompt, branch=branch)
        spelled = [i for part in ("[SE", "G]") for i in dialog.tokenizer.encode(part, bos=False)]
        ids = torch.cat([torch.tensor([spelled]), said.ids_BS], dim=1)
        return said._replace(ids_BS=ids)

    monkeypatch.setattr(scripted, "generate", generate)
    (flawed,) = make(scripted, dialog, mask_probability=0.0).diagnose(pictures[:1])
    assert [f.explanation for f in flawed.findings] == ["floats in the air.", "floats too."]


def test_without_a_verdict_first_the_answer_is_plainly_greedy(model, dialog, pictures):
    """Neither opening is forced, whatever the threshold; the surest finding is what calibration looks at."""
    model.config = replace(model.config, verdict_first=False)
    openings = dialog.first_ids(OPENING, CLEAN_ANSWER)
    with torch.no_grad():
        model.lm_head.weight[list(openings)] -= 10 * model.lm_head.weight[list(openings)].abs()
    defender = make(model, dialog, artifact_probability=1.0, min_confidence=0.9)
    assert defender._branch is None
    _, patches = defender._look(pictures[:1])
    said = model.generate(patches, torch.tensor(dialog.prompt))
    (diagnosis,) = defender.diagnose(pictures[:1])
    ids = [i for i in said.ids_BS[0].tolist() if i != dialog.config.tokens.pad]
    assert diagnosis.answer == " ".join(dialog.tokenizer.decode(ids).removesuffix("</s>").split())
    inclined, _ = defender.inclinations(pictures)
    eager = make(model, dialog).diagnose(pictures)
    assert inclined.tolist() == [max((f.confidence for f in d.findings), default=0.0) for d in eager]


def test_masks_have_the_size_of_their_picture(scripted, dialog, pictures):
    defender = make(scripted, dialog, mask_probability=0.0)
    (diagnosis,) = defender.diagnose([pictures[2]])
    assert diagnosis.findings[0].mask.shape == (20, 64)


@pytest.mark.parametrize("limit", [{"min_confidence": 0.95}, {"mask_probability": 1.0}])
def test_thresholds_drop_findings(scripted, dialog, pictures, limit):
    limits = {"mask_probability": 0.0, **limit}
    assert make(scripted, dialog, **limits).diagnose(pictures[:1])[0].findings == ()


def test_the_opening_follows_its_threshold(model, dialog, pictures):
    artifact, clean = dialog.first_ids(OPENING, CLEAN_ANSWER)
    first = {}
    for threshold in (0.0, 1.0):
        defender = make(model, dialog, artifact_probability=threshold)
        _, patches = model.look(torch.rand(2, 3, 32, 32))
        answers = model.generate(patches, torch.tensor(dialog.prompt), branch=defender._branch)
        first[threshold] = answers.ids_BS[:, 0].tolist()
        assert ((answers.artifact_B > 0) & (answers.artifact_B < 1)).all()
    assert first == {0.0: [artifact] * 2, 1.0: [clean] * 2}


def test_without_a_trained_head_there_is_no_verdict(model, dialog, pictures):
    model.config = replace(model.config, has_detection=False)
    assert make(model, dialog).diagnose(pictures[:1])[0].synthetic_probability is None


@pytest.mark.parametrize(
    "picture",
    [np.zeros((8, 8, 3)), *(np.zeros(shape, np.uint8) for shape in ((8, 8), (8, 8, 4), (0, 8, 3)))],
)
def test_other_arrays_are_refused(model, dialog, pictures, picture):
    with pytest.raises(InvalidInput, match="picture 2 must be uint8 RGB"):
        make(model, dialog).diagnose([pictures[0], picture])


def test_extreme_sizes(model, dialog):
    images = [np.zeros((*size, 3), np.uint8) for size in ((1, 1), (2000, 3), (3, 2000), (1, 4_000_000))]
    assert len(make(model, dialog).diagnose(images)) == 4


@pytest.mark.parametrize("error", [ValueError, OverflowError, MemoryError])
def test_what_one_picture_does_to_the_arithmetic_is_a_model_error(
    model, dialog, pictures, monkeypatch, error
):
    monkeypatch.setattr(model, "look", lambda x: (_ for _ in ()).throw(error("too long\nmore")))
    with pytest.raises(ModelError) as caught:
        make(model, dialog).diagnose(pictures[:1])
    assert "\n" not in str(caught.value)


def test_a_failing_network_is_a_model_error(model, dialog, pictures, monkeypatch):
    monkeypatch.setattr(model, "survey", None)
    monkeypatch.setattr(model, "look", lambda x: (_ for _ in ()).throw(RuntimeError("wrong shape\nmore")))
    with pytest.raises(ModelError, match=r"the defender failed \(wrong shape\)$"):
        make(model, dialog).diagnose(pictures)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    model, dialog, pictures, monkeypatch, caplog
):
    defender, tried, look = make(model, dialog), [], model.look
    alone = [defender.diagnose([picture])[0] for picture in pictures]

    def room_for_one(pixels):
        tried.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(pixels)

    monkeypatch.setattr(model, "look", room_for_one)
    for one, other in zip(defender.diagnose(pictures), alone, strict=True):
        same(one, other)
    assert tried == [4, 2, 1, 1, 1, 1] and caplog.text.count("do not fit into memory") == 2
    defender.diagnose(pictures[:2])
    assert tried[6:] == [1, 1]  # learned


def test_one_picture_that_does_not_fit_is_one_clear_line(model, dialog, pictures, monkeypatch):
    def full(_pixels):
        raise torch.OutOfMemoryError("CUDA out of memory\nTried to allocate")

    monkeypatch.setattr(model, "look", full)
    with pytest.raises(ModelError, match="even for one picture: load it with four_bit") as caught:
        make(model, dialog).diagnose(pictures)
    assert "\n" not in str(caught.value)


def test_no_pictures_no_diagnoses(model, dialog):
    assert make(model, dialog).diagnose([]) == []


def scripted_head(model, dialog, monkeypatch, answers):
    """Let every row say its own answer, whatever the network thinks; the states stay the network's."""
    asked = len(dialog.prompt)
    said = [dialog.with_answer(answer).ids[asked:] for answer in answers]
    at = iter(range(max(map(len, said))))

    def head(hidden_BD):
        step = next(at)
        logits = torch.full((len(hidden_BD), dialog.config.language.vocab_size), -20.0)
        for row, ids in enumerate(said):
            # A row that has ended says anything at all, and must not be heard.
            logits[row, ids[step] if step < len(ids) else dialog.config.tokens.seg] = 20.0
        return logits

    monkeypatch.setattr(model.lm_head, "forward", head)
    return said


def test_rows_that_end_at_different_steps_do_not_disturb_each_other(model, dialog, pictures, monkeypatch):
    model.config = replace(model.config, max_new_tokens=100)
    answers = [CLEAN_ANSWER, ANSWER, f"{OPENING} {CONE} melts."]
    _, patches = make(model, dialog)._look(pictures[:3])
    prompt = torch.tensor(dialog.prompt)
    with monkeypatch.context() as patched:
        said = scripted_head(model, dialog, patched, answers)
        together = model.generate(patches, prompt)
    assert len({len(ids) for ids in said}) == 3
    assert together.ids_BS.shape == (3, max(map(len, said)))
    assert together.owner_M.tolist() == [1, 1, 2]
    alone = []
    for row, answer in enumerate(answers):
        ended = together.ids_BS[row].tolist()
        assert tuple(ended[: len(said[row])]) == said[row]
        assert set(ended[len(said[row]) :]) <= {dialog.config.tokens.pad}
        with monkeypatch.context() as patched:
            scripted_head(model, dialog, patched, [answer])
            alone.append(model.generate(patches[row : row + 1], prompt).seg_MD)
    assert torch.allclose(together.seg_MD, torch.cat(alone), atol=1e-5)


def test_diagnoses_of_answers_of_different_length(model, dialog, pictures, monkeypatch):
    model.config = replace(model.config, max_new_tokens=100)
    defender = make(model, dialog, mask_probability=0.0)
    answers = [CLEAN_ANSWER, ANSWER, f"{OPENING} {CONE} melts."]
    with monkeypatch.context() as patched:
        scripted_head(model, dialog, patched, answers)
        monkeypatch.setattr(defender, "_branch", None)
        together = defender.diagnose(pictures[:3])
    assert [d.answer for d in together] == answers
    assert [[f.explanation for f in d.findings] for d in together] == [
        [],
        ["floats in the air.", "floats too."],
        ["melts."],
    ]
    assert [f.mask.shape for f in together[2].findings] == [pictures[2].shape[:2]]


def test_a_tower_of_256_tokens_runs(dialog):
    """The paper's number of image tokens: 16 x 16 patches, and another width than the released tower's."""
    vision = replace(dialog.config.vision, image_size=64, patch_size=4, hidden_size=40)
    config = replace(dialog.config, vision=vision)
    assert config.image_tokens == 256
    torch.manual_seed(0)
    model = Legion(config).eval()
    other = Dialog(config, dialog.tokenizer)
    rng = np.random.default_rng(0)
    samples = [
        Sample(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), (finding(0, 64),)[:n]) for n in (0, 1)
    ]
    samples = [replace(s, findings=tuple(replace(f, mask=f.mask[:48]) for f in s.findings)) for s in samples]
    batch = Collator(config, other)(samples)
    with torch.no_grad():
        out = model(batch.inputs)
        assert out.patches_BNP.shape == (2, 256, 40)
        assert out.hidden_BLD.shape[1] == batch.inputs.ids_BT.shape[1] + 255
        assert [mask.shape for mask in out.masks] == [(0, 48, 64), (1, 48, 64)]
        assert torch.isfinite(model.loss(batch.inputs, batch.targets, out).loss)
    assert len(make(model, other).diagnose([sample.image for sample in samples])) == 2
