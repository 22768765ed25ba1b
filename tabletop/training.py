"""`legion train ...`: make the bundled models from nothing, one command each, or all in their order.

Every command resumes where it stopped, writes its weights under tabletop/weights/ and a model card beside
them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contracts.intervals import Interval
from tabletop import cards, data, inputs
from tabletop.scenes import SEED_RANGES

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

    from tabletop.trainer import Schedule

BUILD = Path("build/tabletop")
WEIGHTS = Path(__file__).parent / "weights"


def _sitting(args: argparse.Namespace, schedule: Schedule) -> Schedule:
    """The schedule as this sitting follows it: how long, and on which device."""
    return replace(schedule, max_seconds=args.max_seconds, device=args.device)


def train_clip(args: argparse.Namespace) -> bool:
    """Both towers of the tiny CLIP; needs the autoencoder, to know its pictures from renders."""
    from tabletop import clip

    schedule = _sitting(args, clip.SCHEDULE)
    pairs = data.load("train", clip.PAIRS, args.data)
    decoded = inputs.reconstructed(args, "train", clip.PAIRS)
    model, tokenizer, outcome = clip.train_clip(pairs, decoded, args.build / "clip", schedule)
    if outcome.finished:
        clip.save(model, tokenizer, args.weights / "clip")
        figures = clip.evaluate(model, tokenizer, data.load("validation", 1_000, args.data))
        _card(args, "clip", {"clip": schedule}, "train", clip.PAIRS, figures)
    return outcome.finished


def train_autoencoder(args: argparse.Namespace) -> bool:
    """The generator's autoencoder; kept in the build folder until the generator is assembled."""
    from tabletop import autoencoder

    schedule = _sitting(args, autoencoder.SCHEDULE)
    pairs = data.load("train", autoencoder.PAIRS, args.data)
    model, outcome = autoencoder.train_autoencoder(pairs, args.build / "autoencoder", schedule)
    if outcome.finished:
        model.save_pretrained(args.build / "autoencoder" / "model")
        figures = autoencoder.evaluate(model, data.load("validation", 1_000, args.data))
        kept = {name: asdict(figure) for name, figure in figures.items()}
        (args.build / "autoencoder" / "figures.json").write_text(json.dumps(kept, indent=2))
        print(kept)
    return outcome.finished


def train_geometry(args: argparse.Namespace) -> bool:
    """The geometry check: its cutter, and the bounds that clean pictures keep."""
    from tabletop import autoencoder, geometry

    schedule = _sitting(args, geometry.SCHEDULE)
    vae = inputs.trained_autoencoder(args)
    learned, chosen, measured = (inputs.geometry_pairs(part) for part in geometry.PARTS)
    rendered = data.stack([picture for pair in learned for picture in (pair.clean, pair.flawed)])
    covers = np.stack([geometry.covers_of(c) for p in learned for c in (p.clean_solids, p.flawed_solids)])
    model, outcome = geometry.train_cutter(
        np.concatenate([rendered, autoencoder.reconstruct(vae, rendered)]),
        np.concatenate([covers, covers]),
        args.build / "geometry",
        schedule,
    )
    if outcome.finished:
        decoded = autoencoder.reconstruct(vae, data.stack([pair.clean for pair in chosen]))
        check = geometry.GeometryCheck.made(model, learned, chosen, decoded)
        geometry.save(check, args.weights / "geometry")
        clean, flawed = (autoencoder.reconstruct(vae, p) for p in geometry.pictures_of(measured))
        figures = geometry.evaluate(check, measured, clean, flawed)
        _card(args, "geometry", {"geometry": schedule}, "geometry", len(learned), figures)
    return outcome.finished


def train_scorer(args: argparse.Namespace) -> bool:
    """The preference scorer, from the tiny CLIP."""
    from tabletop import preference

    schedule = _sitting(args, preference.SCHEDULE)
    model, tokenizer = inputs.bundled_clip(args)
    pairs = data.load("train", preference.PAIRS, args.data)
    decoded = inputs.reconstructed(args, "train", preference.PAIRS)
    model, outcome = preference.train_scorer(
        model, tokenizer, pairs, decoded, args.build / "scorer", schedule
    )
    if outcome.finished:
        _finish_scorer(args, "scorer", model, tokenizer, {"scorer": schedule}, "train", preference.PAIRS)
    return outcome.finished


def train_reporter(args: argparse.Namespace) -> bool:
    """A second preference scorer; shares neither first weights nor scenes with the one that selects."""
    from tabletop import clip, preference

    from_nothing = _sitting(args, preference.REPORTER_CLIP)
    schedule = _sitting(args, preference.REPORTER)
    pairs = data.load("judge", preference.REPORTER_PAIRS, args.data)
    decoded = inputs.reconstructed(args, "judge", preference.REPORTER_PAIRS)
    folder = args.build / "reporter"
    model, tokenizer, outcome = clip.train_clip(pairs, decoded, folder, from_nothing)
    if not outcome.finished:
        return False
    model, outcome = preference.train_scorer(model, tokenizer, pairs, decoded, folder, schedule)
    if outcome.finished:
        schedules = {"clip": from_nothing, "scorer": schedule}
        _finish_scorer(args, "reporter", model, tokenizer, schedules, "judge", preference.REPORTER_PAIRS)
    return outcome.finished


def _finish_scorer(
    args: argparse.Namespace,
    name: str,
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    schedules: Mapping[str, object],
    split: str,
    trained_on: int,
) -> None:
    """Write a preference scorer and its card."""
    from tabletop import clip, preference

    clip.save(model, tokenizer, args.weights / name)
    held_out = data.load("validation", 1_000, args.data)
    seen = {
        "rendered": (held_out.clean, held_out.flawed),
        "after the autoencoder": inputs.reconstructed(args, "validation", 1_000),
    }
    figures = {
        f"{figure} ({how})": value
        for how, pictures in seen.items()
        for figure, value in preference.evaluate(model, tokenizer, held_out, pictures).items()
    }
    _card(args, name, schedules, split, trained_on, figures)


def train_judge(args: argparse.Namespace) -> bool:
    """The independent judge; learns from the generator's pictures as well, once there is one."""
    from tabletop import judge

    schedule = _sitting(args, judge.SCHEDULE)
    pairs = data.load("judge", judge.PAIRS, args.data)
    decoded = inputs.reconstructed(args, "judge", judge.PAIRS)
    painted = inputs.judged_paintings(args) if inputs.generator_is_finished(args) else None
    model, outcome = judge.train_judge(pairs, decoded, args.build / "judge", schedule, painted)
    if outcome.finished:
        judge.save(model, args.weights / "judge")
        held_out = data.load("validation", 1_000, args.data)
        figures = judge.evaluate(model, held_out, inputs.reconstructed(args, "validation", 1_000))
        _card(args, "judge", {"judge": schedule}, "judge", judge.PAIRS, figures)
    return outcome.finished


def train_generator(args: argparse.Namespace) -> bool:
    """The diffusion model; needs the CLIP and the autoencoder."""
    from tabletop import autoencoder, generator

    schedules = {name: _sitting(args, part) for name, part in generator.SCHEDULES.items()}
    clip_model, tokenizer = inputs.bundled_clip(args)
    vae = inputs.trained_autoencoder(args)
    pairs = data.load("train", None, args.data)
    folder = args.build / "generator"
    folder.mkdir(parents=True, exist_ok=True)
    encoded = f"latents-world{data.WORLD}-{inputs.fingerprint(inputs.autoencoder_folder(args))}.pt"
    latents = generator.encode_latents(vae, pairs, folder / encoded)
    unet, outcome = generator.train_generator(pairs, latents, clip_model, tokenizer, folder, schedules)
    if outcome.finished:
        generator.save(unet, vae, clip_model, tokenizer, args.weights / "generator")
        kept = json.loads((args.build / "autoencoder" / "figures.json").read_text())
        figures = {name: Interval(**figure) for name, figure in kept.items()}
        figures |= generator.evaluate(args.weights / "generator", args.weights / "geometry")
        described = {"autoencoder": autoencoder.SCHEDULE, **schedules}
        _card(args, "generator", described, "train", len(pairs), figures)
        (folder / inputs.FINISHED).touch()
    return outcome.finished


def train_inpainter(args: argparse.Namespace) -> bool:
    """The inpainting model; starts as the generator."""
    from controller.generators.diffusers_inpainting import DiffusersInpainter
    from tabletop import inpainter

    schedules = {name: _sitting(args, part) for name, part in inpainter.SCHEDULES.items()}
    parts = inpainter.load_parts(args.weights / "generator")
    pairs = data.load("train", None, args.data)
    unet, outcome = inpainter.train_inpainter(pairs, parts, args.build / "inpainter", schedules)
    if outcome.finished:
        inpainter.save(unet, parts, args.weights / "inpainter")
        painter = DiffusersInpainter.load(args.weights / "inpainter", batch_size=25, exact=False)
        figures = inpainter.evaluate(painter, data.load("validation", 200, args.data))
        _card(args, "inpainter", schedules, "train", len(pairs), figures)
    return outcome.finished


def train_defender(args: argparse.Namespace) -> bool:
    """The small LEGION; its last stage needs the generator's pictures and is left out until there is one."""
    from tabletop import train_defender as recipe

    everything = data.load("train", None, args.data)
    pairs = recipe.part(everything, 0, recipe.PAIRS)
    further = recipe.part(everything, recipe.PAIRS, len(everything))
    painted = inputs.paintings(args) if inputs.generator_is_finished(args) else None
    plan = recipe.Plan().paused_after(args.max_seconds)
    decoded = inputs.reconstructed(args, "train", recipe.PAIRS)
    folder, out = args.build / "defender", args.weights / "defender"
    outcomes = recipe.train(
        pairs,
        folder,
        out,
        clip_folder=args.weights / "clip",
        decoded=decoded,
        paintings=painted,
        further=further,
        plan=plan,
    )
    if not all(outcome.finished for outcome in outcomes.values()):
        return False
    held_out = data.load("validation", 1_000, args.data)
    measured = recipe.calibrate_and_measure(out, held_out, inputs.reconstructed(args, "validation", 1_000))
    figures = {f"{name} ({how})": v for how, values in measured.items() for name, v in values.items()}
    _card(args, "defender", plan.parts(), "train", len(everything), figures)
    return True


def _card(
    args: argparse.Namespace,
    name: str,
    schedules: Mapping[str, object],
    split: str,
    pairs: int,
    figures: cards.Figures,
) -> None:
    """The card of a model trained on the first pairs of a split, in parts that logged under their names."""
    # The autoencoder is trained as a model of its own, and bundled as a part of the generator.
    folders = {part: "autoencoder" if part == "autoencoder" else name for part in schedules}
    parts = [
        cards.Part(part, schedule, args.build / folders[part] / f"{part}.jsonl")
        for part, schedule in schedules.items()
    ]
    first = SEED_RANGES[split][0]
    cards.write(name, args.weights / name, parts, pairs, (first, first + pairs), figures, args.device)


def _keep_freed_memory() -> None:
    """Let glibc reuse the large blocks that a step frees: saves an eighth of its time."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library: nothing to tune
        return
    trim_threshold, mmap_threshold = -1, -3
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 1 << 30)


def _prepare(args: argparse.Namespace) -> None:
    """Threads, memory and device of all trainings. Raises InvalidInput for a device that is not here."""
    import torch

    from controller.generators.loading import check_device

    torch.set_num_threads(args.threads)
    _keep_freed_memory()
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(args.device)
    os.environ["ACCELERATE_USE_CPU"] = str(args.device == "cpu")  # the defender's trainer asks accelerate


COMMANDS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "autoencoder": train_autoencoder,
    "clip": train_clip,
    "scorer": train_scorer,
    "reporter": train_reporter,
    "geometry": train_geometry,
    "generator": train_generator,
    "inpainter": train_inpainter,
    "judge": train_judge,
    "defender": train_defender,
}
"""In the order in which one needs another. Each says whether it came to its end, or was paused."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one training command."""
    parser = argparse.ArgumentParser(prog="legion train", description=__doc__)
    parser.add_argument("model", choices=["all", "data", *COMMANDS])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder of the rendered pairs")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where finished weights go")
    parser.add_argument(
        "--max-seconds", type=float, default=float("inf"), help="pause after so long; run again to go on"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads (results are reproducible per count)"
    )
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1 or mps (default: a GPU where there is one, else cpu)"
    )
    args = parser.parse_args(argv)
    names = {"all": list(COMMANDS), "data": []}.get(args.model, [args.model])
    if names:
        _prepare(args)
    if args.model in ("all", "data"):
        for split, count in data.DEFAULT_COUNTS.items():
            data.make(split, count, args.data)
    for name in names:
        if not COMMANDS[name](args):  # what comes after it needs it whole
            print(f"legion train {name} is paused: the same command goes on")
            break


if __name__ == "__main__":
    main()
