"""LEGION (arXiv 2503.15264) as one torch module: CLIP tower -> LLaMA -> [SEG] -> SAM, and the detection head.

The layout is GLaMM's (arXiv 2311.03356), so parameter names equal those of the released checkpoints:
`model.{embed_tokens,layers,norm,mm_projector,text_hidden_fcs,grounding_encoder,vision_tower}`, `lm_head`,
`prediction_head`. What is unusual:

* the picture enters twice: as CLIP patch features inside the text, and as a SAM embedding for the masks;
* the mask prompt is the hidden state that *predicts* a [SEG] token, so it is taken one position before it;
* generation keeps a key-value cache and collects those states as it goes: there is no second forward pass;
* all masks of a batch are decoded in one call, each against the embedding of its own picture.

Shape suffixes:
    B pictures in the batch      T text ids (the picture is one of them)     N image tokens
    L = T + N - 1 positions      D width of the LLaMA                        V vocabulary
    M masks of all pictures      C width of SAM's embedding                  g side of SAM's grid
    P width of the CLIP tower    H, W pixels of one picture                  S new tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, DynamicCache, LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from defender.config import IGNORE_INDEX, IMAGE_ID, LegionConfig, VisionConfig
from defender.losses import answer_loss, mask_losses
from defender.sam import GroundingEncoder

Size = tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """A prepared batch. Pictures are normalized float tensors, ids contain IMAGE_ID once per row."""

    clip_B3SS: Tensor
    sam_B3SS: Tensor
    ids_BT: Tensor
    attention_BT: Tensor
    """True for text, False for padding on the right."""
    resized: tuple[Size, ...]
    """(height, width) of each picture on SAM's canvas."""
    original: tuple[Size, ...]
    """(height, width) of each picture as it came."""


@dataclass(frozen=True)
class Targets:
    """What training compares with."""

    labels_BT: Tensor
    masks: tuple[Tensor, ...]
    """Per picture (M_i, H_i, W_i), 0..1, in the order of the answer's [SEG]s."""
    weight_BT: Tensor | None = None
    """Weight of each label, where not all count alike."""


class Output(NamedTuple):
    """Every stage of one forward pass."""

    cls_BP: Tensor
    patches_BNP: Tensor
    hidden_BLD: Tensor
    sam_BCgg: Tensor
    seg_MD: Tensor
    prompts_MC: Tensor
    owner_M: Tensor
    low_res_M1gg: Tensor
    masks: list[Tensor]
    """Per picture (M_i, H_i, W_i), fp32 logits at the picture's own size."""


class Losses(NamedTuple):
    """Weighted parts and their sum, under upstream's names."""

    loss: Tensor
    ce_loss: Tensor
    mask_bce_loss: Tensor
    mask_dice_loss: Tensor


class Branch(NamedTuple):
    """The first token decides between "there are artifacts" and "there are none"."""

    artifact: int
    clean: int
    threshold: float
    """The artifact token is taken where its share of the two probabilities reaches this."""


class Answers(NamedTuple):
    """What the model said, token by token. Rows that ended early are filled with the pad id."""

    ids_BS: Tensor
    probability_BS: Tensor
    """Probability of each chosen token."""
    artifact_B: Tensor
    """Share of the artifact branch in the first token's choice, 0..1; 1 where no branch was given."""
    seg_MD: Tensor
    owner_M: Tensor


class VisionTower(nn.Module):
    """A CLIP image tower read at `select_layer`, under upstream's doubled name."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.depth = range(config.num_hidden_layers + 1)[config.select_layer]
        clip = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_act=config.hidden_act,
                layer_norm_eps=config.layer_norm_eps,
            )
        )
        self.vision_tower = nn.ModuleDict({"vision_model": clip})

    @property
    def clip(self) -> CLIPVisionModel:
        """The tower itself."""
        tower = self.vision_tower["vision_model"]
        assert isinstance(tower, CLIPVisionModel)
        return tower

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Hidden state (B, 1 + N, P), CLS first. Layers above the selected one are not run."""
        clip = self.clip
        dtype = clip.embeddings.class_embedding.dtype
        hidden: Tensor = clip.pre_layrnorm(clip.embeddings(pixels_B3SS.to(dtype)))
        for layer in clip.encoder.layers[: self.depth]:
            hidden = layer(hidden, None)
        return hidden


class LegionModel(LlamaModel):  # type: ignore[no-untyped-call]
    """The LLaMA with everything that hangs on it."""

    def __init__(self, config: LegionConfig) -> None:
        language, sam = config.language, config.sam
        super().__init__(
            LlamaConfig(
                vocab_size=language.vocab_size,
                hidden_size=language.hidden_size,
                intermediate_size=language.intermediate_size,
                num_hidden_layers=language.num_hidden_layers,
                num_attention_heads=language.num_attention_heads,
                num_key_value_heads=language.num_key_value_heads,
                max_position_embeddings=language.max_position_embeddings,
                rms_norm_eps=language.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": language.rope_theta},
                pad_token_id=config.tokens.pad,
                bos_token_id=config.tokens.bos,
                eos_token_id=config.tokens.eos,
                attention_bias=False,
                tie_word_embeddings=False,
            )
        )
        width = language.hidden_size
        self.vision_tower = VisionTower(config.vision)
        self.mm_projector = nn.Sequential(
            nn.Linear(config.vision.hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        to_prompt = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sam.out_dim), nn.Dropout(0.0)
        )
        self.text_hidden_fcs = nn.ModuleList([to_prompt])
        self.grounding_encoder = GroundingEncoder(sam)


class Legion(nn.Module):
    """The whole defender network. `loss` and `forward` are made of the same parts, and so is `generate`."""

    def __init__(self, config: LegionConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LegionModel(config)
        self.lm_head = nn.Linear(config.language.hidden_size, config.language.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=0.02)
        self.prediction_head = nn.Sequential(
            nn.Linear(config.vision.hidden_size, config.detection_hidden_size),
            nn.ReLU(),
            nn.Linear(config.detection_hidden_size, 2),
        )

    @classmethod
    def without_memory(cls, config: LegionConfig) -> Legion:
        """The network laid out on torch's meta device: names and shapes, no numbers yet."""
        with torch.device("meta"):
            return cls(config)

    def restore_buffers(self) -> None:
        """Compute the buffers that no checkpoint holds, after weights were assigned to `without_memory`."""
        device = self.device
        self.model.rotary_emb = LlamaRotaryEmbedding(config=self.model.config).to(device)
        embeddings = self.model.vision_tower.clip.embeddings
        positions = torch.arange(self.config.image_tokens + 1, device=device)[None]
        embeddings.register_buffer("position_ids", positions, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    # ---- the parts

    def look(self, clip_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's view of the picture: (CLS feature (B, P), patch features (B, N, P))."""
        hidden = self.model.vision_tower(clip_B3SS)
        return hidden[:, 0], hidden[:, 1:]

    def embed(self, ids_BT: Tensor, patches_BNP: Tensor) -> Tensor:
        """Word embeddings (B, L, D) with the projected patches in place of each row's IMAGE_ID."""
        features_BND = self.model.mm_projector(patches_BNP)
        words_BTD = self.model.embed_tokens(ids_BT.clamp(min=0))
        at_B = image_positions(ids_BT)
        rows = [
            torch.cat([words[:at], features.to(words.dtype), words[at + 1 :]])
            for words, features, at in zip(words_BTD, features_BND, at_B, strict=True)
        ]
        return torch.stack(rows)

    def survey(self, sam_B3SS: Tensor) -> Tensor:
        """SAM's embedding of the picture (B, C, g, g)."""
        encoder = self.model.grounding_encoder.image_encoder
        embedding_BCgg: Tensor = encoder(sam_B3SS.to(encoder.pos_embed.dtype))
        return embedding_BCgg

    def to_prompts(self, seg_MD: Tensor) -> Tensor:
        """Hidden states of [SEG] -> SAM text prompts (M, C)."""
        prompts_MC: Tensor = self.model.text_hidden_fcs[0](seg_MD)
        return prompts_MC

    def decode_masks(self, sam_BCgg: Tensor, prompts_MC: Tensor, owner_M: Tensor) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (M, 1, 4g, 4g) and SAM's own quality estimate (M, 1), one mask per prompt.

        `owner_M` says whose picture a prompt belongs to. SAM's decoder takes one picture at a time; this is
        its computation for the single-mask output with the batch laid out prompt by prompt.
        """
        sam = self.model.grounding_encoder
        decoder, count = sam.mask_decoder, len(prompts_MC)
        if count == 0:
            side = 4 * sam_BCgg.shape[-1]
            return sam_BCgg.new_zeros((0, 1, side, side)), sam_BCgg.new_zeros((0, 1))
        padded = _steady(count) if self.training else count
        prompts_MC = F.pad(prompts_MC, (0, 0, 0, padded - count))
        owner_M = F.pad(owner_M, (0, padded - count))
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(padded, -1, -1), prompts_MC[:, None].to(own.dtype)], dim=1)
        dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        picture = (sam_BCgg + dense)[owner_M]
        where = self.dense_positions().to(picture.dtype).expand(padded, -1, -1, -1)
        said, seen = decoder.transformer(picture, where, tokens)
        seen = seen.transpose(1, 2).unflatten(2, picture.shape[-2:])
        fine_MKHW = decoder.output_upscaling(seen)
        weight_MK = decoder.output_hypernetworks_mlps[0](said[:, 1])
        low_res = torch.einsum("mk,mkhw->mhw", weight_MK, fine_MKHW.to(weight_MK.dtype))[:, None]
        return low_res[:count], decoder.iou_prediction_head(said[:count, 0])[:, :1]

    def dense_positions(self) -> Tensor:
        """SAM's positional encoding of its grid (1, C, g, g), in the dtype of the stored matrix."""
        matrix = self.model.grounding_encoder.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        grid = self.config.sam.grid_size
        centers = (torch.arange(grid, device=matrix.device, dtype=torch.float32) + 0.5) / grid
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        angles = 2 * torch.pi * ((2 * torch.stack([x, y], dim=-1) - 1).to(matrix.dtype) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]

    def full_size(self, low_res_M1gg: Tensor, resized: Size, original: Size) -> Tensor:
        """Low-resolution logits -> (M, H, W) fp32 logits at the picture's own size, padding cut away."""
        side = self.config.sam.image_size
        canvas = F.interpolate(low_res_M1gg.float(), (side, side), mode="bilinear", align_corners=False)
        picture = canvas[..., : resized[0], : resized[1]]
        return F.interpolate(picture, original, mode="bilinear", align_corners=False)[:, 0]

    def all_full_size(
        self, low_res_M1gg: Tensor, owner_M: Tensor, resized: Sequence[Size], original: Sequence[Size]
    ) -> list[Tensor]:
        """`full_size` for a batch: one tensor of masks per picture."""
        counts = torch.bincount(owner_M, minlength=len(original)).tolist()
        if len(set(resized)) == 1 and len(set(original)) == 1:
            return list(torch.split(self.full_size(low_res_M1gg, resized[0], original[0]), counts))
        parts = torch.split(low_res_M1gg, counts)
        return [self.full_size(*part) for part in zip(parts, resized, original, strict=True)]

    # ---- what is made of them

    def forward(self, inputs: Inputs) -> Output:
        """Teacher-forced: the ids already contain the answer with its [SEG]s."""
        cls_BP, patches_BNP = self.look(inputs.clip_B3SS)
        embeds_BLD = self.embed(inputs.ids_BT, patches_BNP)
        attention_BL = None
        if not bool(inputs.attention_BT.all()):
            image = inputs.attention_BT.new_ones((len(embeds_BLD), self.config.image_tokens - 1))
            attention_BL = torch.cat([image, inputs.attention_BT], dim=1)
        hidden_BLD = self.model(
            inputs_embeds=embeds_BLD, attention_mask=attention_BL, use_cache=False
        ).last_hidden_state
        before_seg_BL = seg_predictors(inputs.ids_BT, self.config.tokens.seg, self.config.image_tokens)
        owner_M = before_seg_BL.nonzero()[:, 0]
        seg_MD = hidden_BLD[before_seg_BL]
        prompts_MC = self.to_prompts(seg_MD)
        sam_BCgg = self.survey(inputs.sam_B3SS)
        low_res_M1gg, _ = self.decode_masks(sam_BCgg, prompts_MC, owner_M)
        masks = self.all_full_size(low_res_M1gg, owner_M, inputs.resized, inputs.original)
        return Output(
            cls_BP, patches_BNP, hidden_BLD, sam_BCgg, seg_MD, prompts_MC, owner_M, low_res_M1gg, masks
        )

    def loss(self, inputs: Inputs, targets: Targets, output: Output | None = None) -> Losses:
        """Stage 1: answer cross-entropy, mask BCE and mask Dice, weighted as the configuration says."""
        out = self(inputs) if output is None else output
        weights = self.config.loss
        # After the splice id t sits at position t + N - 1 and is predicted one before. (The ids before the
        # picture are shifted less, but they carry no labels.)
        predicting_BTD = out.hidden_BLD[:, self.config.image_tokens - 1 : -1]
        labels_BT = targets.labels_BT[:, 1:]
        counted = labels_BT != IGNORE_INDEX
        weight = None if targets.weight_BT is None else targets.weight_BT[:, 1:][counted]
        states_KD = predicting_BTD[counted].to(self.lm_head.weight.dtype)
        logits_KV = self.lm_head(F.pad(states_KD, (0, 0, 0, _steady(len(states_KD), 256) - len(states_KD))))
        logits_KV = logits_KV[: len(states_KD)]
        ce = weights.ce * answer_loss(logits_KV, labels_BT[counted], weight)
        bce, dice = mask_losses(out.masks, targets.masks)
        bce, dice = weights.bce * bce.to(ce.device), weights.dice * dice.to(ce.device)
        return Losses(ce + bce + dice, ce, bce, dice)

    def detect(self, cls_BP: Tensor) -> Tensor:
        """Stage 2's logits (B, 2) from CLIP's CLS feature: column 1 is real, column 0 synthetic."""
        logits_B2: Tensor = self.prediction_head(cls_BP)
        return logits_B2

    @torch.no_grad()
    def generate(
        self,
        patches_BNP: Tensor,
        prompt_T: Tensor,
        *,
        max_new_tokens: int | None = None,
        branch: Branch | None = None,
    ) -> Answers:
        """Greedy answers to one prompt about a batch of pictures, given as their patch features (`look`).

        `prompt_T` holds IMAGE_ID once. A row that has ended is fed padding until all have ended; what it then
        says is dropped, so no row depends on the others.
        """
        tokens, count = self.config.tokens, len(patches_BNP)
        budget = max_new_tokens or self.config.max_new_tokens
        step_BLD = self.embed(prompt_T.expand(count, -1), patches_BNP)
        cache = DynamicCache(config=self.model.config)
        running_B = torch.ones(count, dtype=torch.bool, device=self.device)
        artifact_B = torch.ones(count, device=self.device)
        ids, probabilities, states = [], [], []
        for step in range(budget):
            hidden_BD = self.model(
                inputs_embeds=step_BLD, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            probability_BV = self.lm_head(hidden_BD).float().softmax(-1)
            next_B = probability_BV.argmax(-1)
            if step == 0 and branch is not None:
                next_B, artifact_B = _take_branch(probability_BV, branch)
            ids.append(torch.where(running_B, next_B, tokens.pad))
            probabilities.append(probability_BV.gather(1, next_B[:, None])[:, 0])
            states.append(hidden_BD)
            running_B = running_B & (next_B != tokens.eos)
            if not running_B.any():
                break
            step_BLD = self.model.embed_tokens(ids[-1])[:, None]
        ids_BS, states_BSD = torch.stack(ids, dim=1), torch.stack(states, dim=1)
        is_seg_BS = ids_BS == tokens.seg
        return Answers(
            ids_BS,
            torch.stack(probabilities, dim=1),
            artifact_B,
            states_BSD[is_seg_BS],
            is_seg_BS.nonzero()[:, 0],
        )


def _steady(count: int, multiple: int = 8) -> int:
    """`count` rounded up: a CPU compiles fast kernels anew for every new shape, so shapes should recur."""
    return -(-count // multiple) * multiple


def _take_branch(probability_BV: Tensor, branch: Branch) -> tuple[Tensor, Tensor]:
    artifact, clean = probability_BV[:, branch.artifact], probability_BV[:, branch.clean]
    share_B = artifact / (artifact + clean).clamp(min=1e-12)
    return torch.where(share_B >= branch.threshold, branch.artifact, branch.clean), share_B


def image_positions(ids_BT: Tensor) -> list[int]:
    """Index of IMAGE_ID in each row. Raises ValueError unless each row has exactly one."""
    is_image = ids_BT == IMAGE_ID
    if not bool((is_image.sum(1) == 1).all()):
        raise ValueError("every text must hold the picture exactly once")
    return is_image.int().argmax(1).tolist()


def seg_predictors(ids_BT: Tensor, seg_id: int, image_tokens: int) -> Tensor:
    """Mask (B, L) of the positions that predict [SEG], in the sequence with the picture spliced in.

    The picture comes before every [SEG], so id t sits at position t + N - 1 and is predicted one before.
    """
    is_seg = ids_BT[:, 1:] == seg_id
    before = is_seg.new_zeros((len(ids_BT), image_tokens - 1))
    after = is_seg.new_zeros((len(ids_BT), 1))
    return torch.cat([before, is_seg, after], dim=1)
