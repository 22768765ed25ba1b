"""The intermediate numbers that the whole-network comparisons pass over."""

import pytest
import torch

from defender.model import seg_predictors

pytestmark = pytest.mark.slow


def test_sam_with_several_masks_per_prompt(tiny, numbers, close):
    data, sam = numbers("sam_tiny_parts"), tiny.model.grounding_encoder
    close(data["text_sparse"], data["text_embeds"])
    dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(data["text_dense"])
    close(dense, data["text_dense"])
    embedding = tiny.survey(data["image"])
    masks, quality = sam.mask_decoder(embedding, tiny.dense_positions(), data["text_embeds"], dense, True)
    close(masks, data["text_low_res_multi"])
    close(quality, data["text_iou_multi"])
    sparse, _ = sam.prompt_encoder(points=None, boxes=data["boxes"], masks=data["mask_input"])
    close(sparse, data["mask_sparse"])


def test_training_stages_between_text_and_masks(tiny, numbers, close):
    data = numbers("legion_tiny_train")
    _, patches = tiny.look(data["clip_pixel_values"])
    close(patches, data["clip_patch_features"])
    pictures = range(len(data["input_ids"]))
    parts = [data[f"seg_embeds_{i}"] for i in pictures]
    prompts = torch.cat(parts)
    close(prompts[:, None], torch.cat([data[f"sparse_{i}"] for i in pictures]))
    owner = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
    assert data["offset"].tolist() == list(range(len(pictures) + 1))  # one conversation per picture
    close(tiny.dense_positions(), data["dense_pe"])
    _, quality = tiny.decode_masks(data["sam_image_embeddings"], prompts, owner)
    close(quality, torch.cat([data[f"iou_pred_{i}"] for i in pictures]))
    close(data["loss.mask_bce_loss"] + data["loss.mask_dice_loss"], data["loss.mask_loss"])
    mask = seg_predictors(data["input_ids"], tiny.config.tokens.seg, tiny.config.image_tokens)
    assert torch.equal(mask, data["seg_token_mask"])


def test_hidden_states_of_generation(tiny, numbers, close):
    """Upstream runs the whole sequence again at each step; the last run shows every state."""
    data = numbers("legion_tiny_generate")
    with torch.no_grad():
        tiny.lm_head.weight.copy_(data["lm_head_override"])
        _, patches = tiny.look(data["clip_pixel_values"])
        embeds = tiny.embed(data["output_ids"][:, :-1], patches)
        hidden = tiny.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        first = tiny.lm_head(hidden[:, data["prompt_ids"].shape[1] + tiny.config.image_tokens - 2])
    close(hidden, data["last_step_hidden"])
    close(first.reshape_as(data["first_step_logits"]), data["first_step_logits"])
    mask = seg_predictors(data["output_ids"], tiny.config.tokens.seg, tiny.config.image_tokens)
    assert torch.equal(mask[:, :-1], data["seg_token_mask"])  # the last token predicts nothing yet
