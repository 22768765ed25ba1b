"""The network reproduces numbers made by running the original code, stage by stage."""

import json

import pytest
import torch

from defender.config import IMAGE_ID
from defender.losses import bce_sum, dice_sum, mask_losses
from defender.model import Inputs, Targets, seg_predictors

pytestmark = pytest.mark.slow


def test_sam_parts(tiny, numbers, close, sizes):
    data, sam = numbers("sam_tiny_parts"), tiny.model.grounding_encoder
    embedding = tiny.survey(data["image"])
    close(embedding, data["image_embedding"])
    close(tiny.dense_positions(), data["dense_pe"])
    prompts = data["text_embeds"][:, 0]
    low_res, quality = tiny.decode_masks(embedding, prompts, torch.zeros(len(prompts), dtype=torch.long))
    close(low_res, data["text_low_res"])
    close(quality, data["text_iou"])
    full = [name for name in data if name.startswith("text_masks_")]
    assert full
    for name in full:
        close(tiny.full_size(low_res, *sizes(name))[:, None], data[name])
    for name, prompt in {
        "pb": {"points": (data["points"], data["point_labels"]), "boxes": data["boxes"], "masks": None},
        "mask": {"points": None, "boxes": data["boxes"], "masks": data["mask_input"]},
    }.items():
        sparse, dense = sam.prompt_encoder(**prompt)
        if name == "pb":
            close(sparse, data["pb_sparse"])
            masks, quality = sam.mask_decoder(embedding, tiny.dense_positions(), sparse, dense, False)
            close(masks, data["pb_low_res"])
            close(quality, data["pb_iou"])
        else:
            close(dense, data["mask_dense"])


def test_masks_of_a_batch_equal_masks_one_by_one(tiny, numbers, close):
    data = numbers("legion_tiny_train")
    embedding = data["sam_image_embeddings"]
    prompts = per_picture(data, "seg_embeds")
    owner = owners(prompts)
    together, _ = tiny.decode_masks(embedding, torch.cat(prompts), owner)
    for image, own in enumerate(prompts):
        rows, sparse = owner == image, own[:, None]
        dense = data["dense_prompt"][:1].expand(len(sparse), -1, -1, -1)
        alone, _ = tiny.model.grounding_encoder.mask_decoder(
            embedding[image : image + 1], tiny.dense_positions(), sparse, dense, False
        )
        close(together[rows], alone, 1e-5)


def test_postprocessing_at_1024(tiny_config, numbers, close, sizes):
    from dataclasses import replace
    from types import SimpleNamespace

    from defender.model import Legion

    data = numbers("sam_postprocess_1024")
    stand_in = SimpleNamespace(config=replace(tiny_config, sam=replace(tiny_config.sam, image_size=1024)))
    names = [name for name in data if name.startswith("masks_")]
    assert len(names) > 1
    for name in names:
        masks = Legion.full_size(stand_in, data["low_res_f16"], *sizes(name))
        close(masks[:, None], data[name])


def test_text_hidden_fcs(tiny, numbers, close):
    data = numbers("text_hidden_fcs")
    close(tiny.to_prompts(data["hidden"]), data["out"])


@pytest.mark.parametrize("case", "abc")
def test_mask_losses_and_their_gradients(numbers, close, case):
    data = numbers("losses")
    for name, function in (("bce", bce_sum), ("dice", dice_sum)):
        logits = data[f"{case}.pred"].clone().requires_grad_()
        loss = function(logits, data[f"{case}.gt"]) / (len(logits) + 1e-8)
        loss.backward()
        close(loss[None], data[f"{case}.{name}"])
        close(logits.grad, data[f"{case}.{name}_grad"])


def test_mask_losses_of_a_batch(numbers, close, tiny_config):
    data, weights = numbers("losses"), tiny_config.loss
    surplus = torch.cat([data["a.gt"], torch.ones_like(data["a.gt"][:1])])
    empty = data["a.pred"][:0]
    bce, dice = mask_losses([data["a.pred"], empty, data["b.pred"]], [surplus, empty, data["b.gt"]])
    close(weights.ce * data["combined.ce_in"], data["combined.ce_loss"])
    close(weights.bce * bce[None], data["combined.mask_bce_loss"])
    close(weights.dice * dice[None], data["combined.mask_dice_loss"])
    masks = weights.bce * bce[None] + weights.dice * dice[None]
    close(masks, data["combined.mask_loss"])
    close(weights.ce * data["combined.ce_in"] + masks, data["combined.loss"])
    with pytest.raises(ValueError, match="3 predicted masks"):
        mask_losses([data["a.pred"]], [data["a.gt"][:1]])


def test_seg_positions(numbers, tiny_config):
    data = numbers("seg_mask")
    mask = seg_predictors(data["input_ids"], tiny_config.tokens.seg, tiny_config.image_tokens)
    assert torch.equal(mask, data["mask"])
    assert torch.equal(mask.nonzero(), data["positions"])


def test_sizes_that_follow_from_others(folder, tiny_config):
    told = json.loads((folder / "legion_tiny_config.json").read_text())
    assert tiny_config.image_tokens == told["num_image_tokens"] == told["seg_pad"] + 1
    assert told["image_token_index"] == IMAGE_ID


def per_picture(data, name):
    """The tensors `name`_0, `name`_1, ... of the pictures of a batch."""
    return [data[f"{name}_{i}"] for i in range(len(data["input_ids"]))]


def owners(parts):
    """Whose picture each row of `parts` belongs to."""
    return torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])


def batch_of(data):
    return Inputs(
        data["clip_pixel_values"],
        data["sam_pixel_values"],
        data["input_ids"],
        data["attention_mask"],
        tuple(map(tuple, data["resize_hw"].tolist())),
        tuple(map(tuple, data["orig_hw"].tolist())),
    )


def test_training_forward_losses_and_gradients(tiny, numbers, close):
    data = numbers("legion_tiny_train")
    inputs = batch_of(data)
    cls, patches = tiny.look(inputs.clip_B3SS)
    close(torch.cat([cls[:, None], patches], 1), data["clip_hidden_m2"])
    close(tiny.model.mm_projector(patches), data["projected_features"])
    close(tiny.embed(inputs.ids_BT, patches), data["inputs_embeds"])

    for name, parameter in tiny.named_parameters():  # what stage 1 of the original trains, LoRA left out
        parameter.requires_grad_(
            any(part in name for part in ("lm_head", "embed_tokens", "text_hidden_fcs", "mask_decoder"))
        )
    out = tiny(inputs)
    close(out.hidden_BLD, data["last_hidden"])
    logits = tiny.lm_head(out.hidden_BLD)
    close(logits[:, -data["logits_text_tail"].shape[1] :], data["logits_text_tail"])
    close(logits.logsumexp(-1), data["logits_logsumexp"])
    close(out.seg_MD, torch.cat(per_picture(data, "seg_hidden")))
    close(out.prompts_MC, torch.cat(per_picture(data, "seg_embeds")))
    assert torch.equal(out.owner_M, owners(per_picture(data, "seg_embeds")))
    close(out.sam_BCgg, data["sam_image_embeddings"])
    close(out.low_res_M1gg, torch.cat(per_picture(data, "low_res_masks")))
    for ours, theirs in zip(out.masks, per_picture(data, "pred_masks"), strict=True):
        close(ours, theirs)

    losses = tiny.loss(inputs, Targets(data["labels"], tuple(per_picture(data, "gt_masks"))))
    for name, value in losses._asdict().items():
        close(value[None], data[f"loss.{name}"])
    losses.loss.backward()
    parameters = dict(tiny.named_parameters())
    full = [name for name in data if name.startswith("grad.")]
    norms = [name for name in data if name.startswith("gradnorm.")]
    assert len(full) > 10 and len(norms) > 50
    for name in full:
        close(parameters[name.removeprefix("grad.")].grad, data[name])
    for name in norms:
        gradient = parameters[name.removeprefix("gradnorm.")].grad
        close((torch.zeros(()) if gradient is None else gradient.norm())[None], data[name])


def test_greedy_generation_with_cache(tiny, numbers, close):
    data = numbers("legion_tiny_generate")
    with torch.no_grad():
        tiny.lm_head.weight.copy_(data["lm_head_override"])
    prompt, expected = data["prompt_ids"][0], data["output_ids"][0]
    _, patches = tiny.look(data["clip_pixel_values"])
    answers = tiny.generate(patches, prompt, max_new_tokens=len(expected) - len(prompt))
    assert answers.ids_BS[0].tolist() == expected[len(prompt) :].tolist()
    close(answers.seg_MD, data["seg_hidden"])
    masks, _ = tiny.decode_masks(
        tiny.survey(data["sam_pixel_values"]), tiny.to_prompts(answers.seg_MD), answers.owner_M
    )
    close(masks, data["low_res_masks"])
    (full,) = tiny.all_full_size(
        masks,
        answers.owner_M,
        tuple(map(tuple, data["resize_hw"].tolist())),
        tuple(map(tuple, data["orig_hw"].tolist())),
    )
    close(full, data["pred_masks"])
    assert torch.equal((full > 0).any(0), data["binary_union"])


def test_detection_head(tiny, numbers, close):
    data = numbers("legion_tiny_cls")
    cls, _ = tiny.look(data["clip_pixel_values"])
    close(cls, data["cls_feature"])
    logits = tiny.detect(cls)
    close(logits, data["logits"])
    loss = torch.nn.functional.cross_entropy(logits, data["labels"])
    close(loss[None], data["loss"])
