"""Repair a picture region by region.

- loop.py      the loop: diagnose, plan, say what should be seen, paint, look, decide; over many pictures
- parts.py     what it works on and with: a picture, its tools, its settings
- state.py     a run as the loop sees it, and its regions in the order in which they are taken
- planning.py  what a round repairs, and the word on it once all its regions are decided
- preview.py   what a first round would do
- views.py     what a run's record tells: what the picture shows, and who painted which pixel
"""

from controller.inpainting.loop import KIND, STEPS, inpaint
from controller.inpainting.parts import Aim, AsFound, InpaintingCase, InpaintingSettings, InpaintingTools
from controller.inpainting.planning import MASK_DONE, NOTHING_TO_TRY
from controller.inpainting.preview import Preview, preview
from controller.inpainting.views import scene_of, source_map

__all__ = [
    "KIND",
    "MASK_DONE",
    "NOTHING_TO_TRY",
    "STEPS",
    "Aim",
    "AsFound",
    "InpaintingCase",
    "InpaintingSettings",
    "InpaintingTools",
    "Preview",
    "inpaint",
    "preview",
    "scene_of",
    "source_map",
]
