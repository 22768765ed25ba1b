"""The bundled small defender: LEGION's own classes with small numbers.

Its CLIP tower has the shape of the tiny CLIP's (tabletop/clip.py), which initializes it. Sizes were chosen so
that one CPU core trains stage 1 at 40 samples a second or more; the file stays under 20 MB in half precision.
"""

from __future__ import annotations

from defender.config import LanguageConfig, LegionConfig, SamConfig, TokenIds, VisionConfig

INSTRUCTION = "Find the artifacts."
"""Short, because each training step reads it for every sample."""


def tabletop_config(vocab_size: int) -> LegionConfig:
    """The small defender over a tokenizer of `vocab_size` pieces, the seven added tokens not counted."""
    return LegionConfig(
        vision=VisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=64,
            patch_size=8,
            hidden_act="gelu",
        ),
        language=LanguageConfig(
            vocab_size=vocab_size + 7,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
        ),
        sam=SamConfig(
            image_size=64,
            resize_to=64,
            patch_size=4,
            embed_dim=96,
            depth=4,
            num_heads=3,
            mlp_ratio=4.0,
            window_size=8,
            global_attn_indexes=(1, 3),
            out_dim=64,
            decoder_heads=4,
            decoder_mlp_dim=128,
        ),
        tokens=TokenIds.after(vocab_size),
        detection_hidden_size=256,
        has_detection=False,
        max_new_tokens=128,
        max_text_tokens=192,
        system="",
        instruction=INSTRUCTION,
    )
