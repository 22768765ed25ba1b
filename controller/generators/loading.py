"""From a folder or a name on the hub to a pipeline: precision, quantization, adapters, place in memory.

Pipelines are taken as they are (`Any`): their classes share names of arguments, not types.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from contracts.errors import CheckpointError, InvalidInput
from contracts.memory import out_of_memory
from controller.checkpoints import INDEX, file_digest
from controller.generators.quiet import line, quiet
from controller.generators.shelf import Shelf

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Offload: TypeAlias = Literal["none", "model", "sequential"]
Quantize: TypeAlias = Literal["none", "8bit", "4bit"]

_RELIEF: dict[Offload, int] = {"none": 0, "model": 1, "sequential": 2}
"""How much memory each way of offloading saves, in order."""
_INPAINTING_CHANNELS = 9
"""Noise, the picture around the mask, and the mask: what the input layer of an inpainting U-Net takes."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter: a .safetensors file, how much of it is added."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True)
class Weights:
    """Which weights of a checkpoint are loaded, and how they are kept in memory."""

    device: str = "cpu"
    dtype: str = "float32"
    variant: str = ""
    """Such as "fp16": the files `*.fp16.safetensors` in place of the others."""
    offload: Offload = "none"
    """"model": each model is moved to the device when it is its turn; "sequential": each layer."""
    quantize: Quantize = "none"
    """The denoiser and the large text encoders in so many bits (bitsandbytes)."""
    vae_tiling: bool = False
    vae_slicing: bool = False
    loras: tuple[Lora, ...] = ()

    def check(self) -> None:
        """Raises InvalidInput for a dtype or device that cannot be used."""
        if self.dtype not in DTYPES:
            raise InvalidInput(f"dtype {self.dtype!r} cannot be used: choose {', '.join(DTYPES)}")
        check_device(self.device)

    def describe(self) -> dict[str, object]:
        """What a record needs of it, as far as it changes pictures."""
        said: dict[str, object] = {}
        if self.quantize != "none":
            said["quantize"] = self.quantize
        if self.loras:
            said["loras"] = [f"{Path(x.path).stem} {file_digest(x.path)} x {x.scale:g}" for x in self.loras]
        return said


class Loan:
    """A pipeline that is fetched from the shelf whenever it is used.

    How it was made to need less memory holds for all loans of these weights, after they were put away too.
    """

    def __init__(self, folder: Path, weights: Weights, shelf: Shelf) -> None:
        """Loads nothing yet."""
        self.folder, self.weights, self.shelf = folder, weights, shelf
        self.key = (str(folder.resolve()), weights)

    def __call__(self) -> Any:
        """The pipeline. Raises CheckpointError, and InvalidInput for options that cannot be used."""
        return self.shelf.get(self.key, self._load)

    def view(self, name: str, make: Callable[[Any], Any]) -> Any:
        """Another pipeline over the same weights, made once."""
        made = self.shelf.view(self.key, self._load, name, make)
        _free_alike(self(), made)
        return made

    @property
    def eased(self) -> Weights:
        """The weights as they are kept in memory by now."""
        eased: Weights = self.shelf.eased.get(self.key, self.weights)
        return eased

    def offload(self, how: Offload) -> bool:
        """Move the weights to main memory; false where that is so already, and on a CPU."""
        on_cpu = torch.device(self.weights.device).type == "cpu"
        if on_cpu or _RELIEF[how] <= _RELIEF[self.eased.offload]:
            return False
        self.shelf.eased[self.key] = replace(self.eased, offload=how)
        offload(self(), how, self.weights.device)
        return True

    def tile(self) -> bool:
        """Let the autoencoder work in tiles; false where it does already, or cannot."""
        if self.eased.vae_tiling or not tile(self()):
            return False
        self.shelf.eased[self.key] = replace(self.eased, vae_tiling=True)
        return True

    def _load(self) -> Any:
        return load_pipeline(self.folder, self.eased)


def best_device() -> str:
    """cuda, mps or cpu: the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raises InvalidInput for a device that torch does not know or this machine does not have."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidInput(f"device {device!r} cannot be used: choose cpu, cuda, cuda:1 or mps") from error
    here: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if kind in here and not here[kind]():
        raise InvalidInput(
            f"torch finds no {kind} device here: install torch for it, or choose device = 'cpu' (slow)"
        )


def load_pipeline(folder: Path, weights: Weights) -> Any:
    """The text-to-image pipeline in a folder, or its inpainting pipeline if it is made for that alone.

    Raises CheckpointError if the folder is no usable pipeline, InvalidInput for options that cannot be used.
    """
    weights.check()
    index = _index(folder)
    options: dict[str, Any] = {"dtype": DTYPES[weights.dtype], "local_files_only": True}
    if weights.variant:
        options["variant"] = weights.variant
    if weights.quantize != "none":
        options["quantization_config"] = _quantization(index, weights)
    try:
        with quiet():
            pipeline = _class_for(index)(folder, **options)
            if _paints_in_masks_alone(pipeline):
                pipeline = as_inpainting(pipeline)
            _add_loras(pipeline, weights.loras)
            _place(pipeline, weights)
    except (CheckpointError, InvalidInput):
        raise
    except Exception as error:  # every library in there raises kinds of its own
        if out_of_memory(error):
            raise
        raise CheckpointError(f"the pipeline in {folder} cannot be loaded: {line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def as_inpainting(pipeline: Any) -> Any:
    """The inpainting pipeline over the same weights. Raises ValueError for kinds that have none."""
    import diffusers

    if hasattr(pipeline, "mask_processor"):
        return pipeline
    from_pipe: Any = diffusers.AutoPipelineForInpainting.from_pipe
    made = from_pipe(pipeline)
    made.set_progress_bar_config(disable=True)
    return made


def offload(pipeline: Any, how: Offload, device: str) -> None:
    """Keep the weights in main memory and move them to the device in turn."""
    if how == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif how == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)


def _free_alike(pipeline: Any, view: Any) -> None:
    """Let a view move its models back to main memory after work if its pipeline does: what `from_pipe` makes
    does not know that they were moved, and would leave the last one on the device."""
    for name in ("_all_hooks", "_offload_device", "_offload_gpu_id"):
        if hasattr(pipeline, name):
            setattr(view, name, getattr(pipeline, name))


def tile(pipeline: Any) -> bool:
    """Let the autoencoder work in tiles; false if it cannot."""
    enable = getattr(getattr(pipeline, "vae", None), "enable_tiling", None)
    if enable is not None:
        enable()
    return enable is not None


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(f"there is no diffusers pipeline in {folder}: {INDEX} is missing")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index.get("_class_name"), str):
            raise ValueError("it names no pipeline class")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be used: {line(error)}") from error
    return dict(index)


def _class_for(index: dict[str, Any]) -> Callable[..., Any]:
    """`from_pretrained` of the class to load with. What is made for inpainting is loaded as what it is."""
    # Imported here, as the import itself prints: it remarks on torchvision, which nobody needs.
    import diffusers

    name = index["_class_name"]
    made_for_masks = "Inpaint" in name or "Fill" in name
    chosen: Any = diffusers.DiffusionPipeline if made_for_masks else diffusers.AutoPipelineForText2Image
    loader: Callable[..., Any] = chosen.from_pretrained
    return loader


def _paints_in_masks_alone(pipeline: Any) -> bool:
    config: Any = getattr(getattr(pipeline, "unet", None), "config", None)
    return getattr(config, "in_channels", None) == _INPAINTING_CHANNELS


def _quantization(index: dict[str, Any], weights: Weights) -> Any:
    if torch.device(weights.device).type == "cpu":
        # bitsandbytes could (defender/four_bit.py has it so), but diffusers 0.42 refuses without a GPU.
        raise InvalidInput(f"quantize = '{weights.quantize}' needs a GPU: leave it out on a CPU")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidInput(
            f"quantize = '{weights.quantize}' needs bitsandbytes: pip install 'legion-studio[4bit]'"
        )
    from diffusers.quantizers import PipelineQuantizationConfig

    large = [n for n in ("unet", "transformer", "text_encoder_2", "text_encoder_3") if _is_large(index, n)]
    options: dict[str, Any] = {"load_in_8bit": True}
    if weights.quantize == "4bit":
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": DTYPES[weights.dtype],
        }
    return PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{weights.quantize}", quant_kwargs=options, components_to_quantize=large
    )


def _is_large(index: dict[str, Any], part: str) -> bool:
    """The denoiser and T5 are; CLIP's text encoders are small and lose most."""
    kind = index.get(part)
    return isinstance(kind, list) and bool(kind[0]) and "CLIP" not in str(kind[1])


def _add_loras(pipeline: Any, loras: tuple[Lora, ...]) -> None:
    for number, lora in enumerate(loras):
        path = Path(lora.path)
        if not path.is_file():
            raise CheckpointError(f"there is no LoRA file {path}")
        if importlib.util.find_spec("peft") is None:
            raise InvalidInput("LoRA adapters need peft: pip install 'legion-studio[peft]'")
        if not hasattr(pipeline, "load_lora_weights"):
            raise InvalidInput(f"a {type(pipeline).__name__} takes no LoRA adapters: leave them out")
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=f"lora{number}")
    if loras:
        names = [f"lora{number}" for number in range(len(loras))]
        missing = set(names) - {name for part in pipeline.get_list_adapters().values() for name in part}
        if missing:
            wrong = loras[int(min(missing).removeprefix("lora"))].path
            raise CheckpointError(f"the LoRA {wrong} is made for another kind of model than this one")
        pipeline.set_adapters(names, [lora.scale for lora in loras])


def _place(pipeline: Any, weights: Weights) -> None:
    if weights.vae_tiling:
        tile(pipeline)
    if weights.vae_slicing and hasattr(getattr(pipeline, "vae", None), "enable_slicing"):
        pipeline.vae.enable_slicing()
    if weights.offload != "none" and torch.device(weights.device).type != "cpu":
        offload(pipeline, weights.offload, weights.device)
    else:
        pipeline.to(weights.device)
