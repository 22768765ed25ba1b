"""The stages train what they should, and a run that was interrupted ends as one that was not."""

from dataclasses import replace

import pytest
import torch

from contracts.errors import CheckpointError, InvalidInput
from defender.model import Legion
from defender.training.adapters import choose_trainable
from defender.training.heads import VisionHeads
from defender.training.schedule import Schedule
from defender.training.stages import pretrain_vision, train_joint, train_stage1, train_stage2

pytestmark = pytest.mark.slow

SHORT = Schedule(steps=6, batch_size=8, learning_rate=3e-3, warmup=2, group=2, log_every=20)


def fresh(dialog):
    torch.manual_seed(3)
    model = Legion(dialog.config)
    return model, VisionHeads(model, (3,))


def test_the_papers_set_of_trainable_parts(model):
    choose_trainable(model, "paper")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "lm_head.weight" in trained and "model.embed_tokens.weight" in trained
    assert any("mask_decoder" in name for name in trained)
    frozen = ("vision_tower", "mm_projector", "image_encoder", "prompt_encoder", "model.layers", "model.norm")
    assert not [name for name in trained if any(part in name for part in frozen)]
    assert not [name for name in trained if name.startswith("prediction_head")]
    choose_trainable(model, "all")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith("prediction_head")}


def test_warm_up_moves_only_the_towers(dialog, collate, samples, tmp_path):
    model, heads = fresh(dialog)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    pretrain_vision(model, heads, samples, collate, SHORT, tmp_path)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert any("image_encoder" in n for n in moved) and any("vision_tower" in n for n in moved)
    assert all("image_encoder" in n or "vision_tower" in n for n in moved)


class Killed(Exception):
    """Stands for a process that ended in the middle of a step."""


class Interrupted:
    """Samples that can be read so many times before the process ends."""

    def __init__(self, samples, reads):
        self.samples, self.reads = samples, reads

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.reads -= 1
        if self.reads < 0:
            raise Killed
        return self.samples[index]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(dialog, collate, samples, tmp_path, ema):
    schedule = replace(SHORT, ema_decay=ema, save_every=0.0)
    whole, heads = fresh(dialog)
    assert train_stage1(whole, samples, collate, schedule, tmp_path / "whole", heads=heads).finished
    for reads in (20, 12):  # killed in the third step, and again in the second one after that
        model, heads = fresh(dialog)
        torch.manual_seed(reads)  # whatever the process drew before must not matter
        cut = Interrupted(samples, reads)
        with pytest.raises(Killed):
            train_stage1(model, cut, collate, schedule, tmp_path / "parts", heads=heads)
    model, heads = fresh(dialog)
    rest = Interrupted(samples, 24)  # three steps of eight: no step is made twice
    outcome = train_stage1(model, rest, collate, schedule, tmp_path / "parts", heads=heads)
    assert outcome.finished and outcome.step == schedule.steps
    for (name, ours), theirs in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_paused_run_says_so_and_keeps_its_place(dialog, collate, samples, tmp_path):
    model, heads = fresh(dialog)
    paused = train_stage1(model, samples, collate, replace(SHORT, pause_after=0.0), tmp_path, heads=heads)
    assert (paused.step, paused.finished) == (0, False)
    assert train_stage1(model, samples, collate, SHORT, tmp_path, heads=heads).finished


def test_a_time_budget_ends_a_run_early(dialog, collate, samples, tmp_path):
    model, heads = fresh(dialog)
    budget = replace(SHORT, steps=100_000, max_seconds=1.0)
    outcome = train_stage1(model, samples, collate, budget, tmp_path, heads=heads)
    assert outcome.finished and 0 < outcome.step < 1_000


def test_a_checkpoint_of_another_network_is_refused(dialog, collate, samples, tmp_path):
    model, heads = fresh(dialog)
    train_stage1(model, samples, collate, replace(SHORT, steps=1), tmp_path, heads=heads)
    with pytest.raises(CheckpointError, match="another shape"):
        train_stage1(model, samples, collate, replace(SHORT, steps=1), tmp_path)


def test_a_run_is_not_resumed_with_other_settings(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    train_stage2(model, samples, collate, replace(SHORT, pause_after=0.0), tmp_path)
    with pytest.raises(CheckpointError, match="learning_rate was 0.003 and is 0.1; samples was 16 and is 12"):
        train_stage2(model, samples[:12], collate, replace(SHORT, learning_rate=0.1), tmp_path)
    practical = replace(SHORT, accumulation=2, log_every=1, save_every=7.0, workers=1)
    assert train_stage2(model, samples, collate, practical, tmp_path).finished


def test_a_damaged_state_is_one_clear_error(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    train_stage2(model, samples, collate, replace(SHORT, pause_after=0.0), tmp_path)
    (tmp_path / "stage-2.step-000000" / "trained.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="stage-2.step-000000 cannot be read"):
        train_stage2(model, samples, collate, SHORT, tmp_path)
    (tmp_path / "stage-2.step-000000" / "begun.json").unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        train_stage2(model, samples, collate, SHORT, tmp_path)


def test_a_state_that_was_not_finished_is_not_looked_at(dialog, collate, samples, tmp_path):
    """A kill while a state is written leaves NAME.unfinished behind."""
    left = tmp_path / "stage-2.unfinished"
    left.mkdir()
    (left / "trained.safetensors").write_bytes(b"cut")
    model, _ = fresh(dialog)
    assert train_stage2(model, samples, collate, replace(SHORT, steps=2), tmp_path).finished
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["stage-2.step-000002"]


def test_stage_1_learns(dialog, collate, samples, tmp_path):
    model, heads = fresh(dialog)
    batch = collate(samples)
    with torch.no_grad():
        before = model.loss(batch.inputs, batch.targets)
    schedule = replace(SHORT, steps=40, batch_size=16, warmup=5)
    train_stage1(model, samples, collate, schedule, tmp_path, heads=heads)
    with torch.no_grad():
        after = model.loss(batch.inputs, batch.targets)
    assert after.ce_loss < 0.7 * before.ce_loss
    assert after.mask_bce_loss + after.mask_dice_loss < 0.8 * (before.mask_bce_loss + before.mask_dice_loss)


def test_stage_2_learns_detection_and_touches_nothing_else(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    schedule = replace(SHORT, steps=200, batch_size=16, learning_rate=2e-2, log_every=100)
    train_stage2(model, samples, collate, schedule, tmp_path)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if n.startswith("prediction_head")}
    assert model.config.has_detection
    batch = collate(samples)
    right = model.detect(model.look(batch.inputs.clip_B3SS)[0]).argmax(1) == batch.is_real_B
    assert right.float().mean() > 0.9


def test_stage_2_needs_to_know_what_is_real(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    unknown = [replace(sample, is_real=None) for sample in samples]
    with pytest.raises(InvalidInput, match="whether they are real"):
        train_stage2(model, unknown, collate, SHORT, tmp_path)


def test_joint_trains_the_head_and_the_rest_in_one_stage(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    batch = collate(samples)
    with torch.no_grad():
        earlier = model.loss(batch.inputs, batch.targets).loss
    # Twenty steps decide little about real and generated noise; the head's own loss has to fall.
    schedule = replace(SHORT, steps=60, batch_size=16, warmup=5, log_every=20)
    train_joint(model, samples, collate, schedule, tmp_path, mask_boost=1.0)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert "prediction_head.0.weight" in moved and "lm_head.weight" in moved
    assert model.config.has_detection
    with torch.no_grad():
        assert model.loss(batch.inputs, batch.targets).loss < 0.7 * earlier
        logits = model.detect(model.look(batch.inputs.clip_B3SS)[0])
    assert (logits.argmax(1) == batch.is_real_B).float().mean() > 0.8


def test_joint_in_the_papers_set_leaves_clip_alone(dialog, collate, samples, tmp_path):
    model, _ = fresh(dialog)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train_joint(model, samples, collate, replace(SHORT, steps=2), tmp_path, trainable="paper")
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert "prediction_head.2.weight" in moved and "lm_head.weight" in moved
    assert not [
        n for n in moved if "vision_tower" in n or "image_encoder" in n or n.startswith("model.layers")
    ]
