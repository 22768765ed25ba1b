"""Profiles: which models a run uses, as TOML files. A bundled profile goes by name, one of your own by path
or, from the folder of your own, by name.

An unknown profile is answered with the nearest name, an unknown or missing key is an error.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from contracts.errors import InvalidInput
from contracts.hub import hub_name
from defender.tiling import MAX_ZOOM
from flows.profiles.benchmark import BenchmarkProfile
from flows.profiles.generator import GeneratorProfile, with_changes
from flows.profiles.inpainting import InpaintingProfile
from flows.profiles.language import BudgetSection, LanguageModelSection, ModifierProfile
from flows.settings import CHECKOUT, MAX_BATCH, MAX_ROUNDS

BUNDLED = Path(__file__).resolve().parent / "bundled"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DefenderProfile(LanguageModelSection):
    """A LEGION checkpoint, or a vision-language model on a server ("vlm"), and how it looks at pictures."""

    kind: Literal["legion", "vlm"]
    path: str = ""
    """LEGION's folder; or the file of SAM's weights that turn the vision model's boxes into outlines (without
    it the boxes are the masks)."""
    clip: str = ""
    """legion only: where a folder as its authors released it takes CLIP's tower from, a folder or a name on
    the hub; a folder of this project's own has all it needs."""
    sam: str = ""
    """legion only: the same for SAM's original weights, a file or ORG/NAME/FILE on the hub."""
    device: str = ""
    """Such as "cuda:1"; the profile's own device if empty."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    four_bit: bool = False
    """Keep the language model in 4 bits (bitsandbytes)."""
    batch_size: int = Field(default=16, ge=1, le=MAX_BATCH)
    artifact_probability: float | None = Field(default=None, ge=0, le=1)
    """legion only: from which probability of artifacts on it names some; if it is not given, what the
    checkpoint was calibrated to."""
    tiles: int = Field(default=1, ge=1, le=MAX_ZOOM)
    """Look again at tiles enlarged up to this many times; 1 means the whole view alone."""
    tile_confidence: float | None = Field(default=None, ge=0, le=1)
    """With tiles, what is said less surely than this is dropped; if it is not given, less surely than the
    checkpoint was calibrated to."""
    tries: int = Field(default=3, ge=1, le=10)
    """vlm only: answers at most per picture."""
    min_confidence: float = Field(default=0.3, ge=0, le=1)
    """vlm only: what is said less surely than this is dropped."""
    budget: BudgetSection = BudgetSection()
    """vlm only: for all pictures of a command. At a limit the command ends; what is done is kept."""

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> DefenderProfile:
        if self.kind == "legion" and not self.path:
            raise PydanticCustomError("no_path", "path is missing: where is the defender's checkpoint?")
        asked = {*LanguageModelSection.model_fields, "tries", "min_confidence", "budget"}
        of_legion = {"clip", "sam", "dtype", "four_bit", "artifact_probability"}
        wrong = self.model_fields_set & (asked if self.kind == "legion" else of_legion)
        if wrong:
            raise PydanticCustomError(
                "no_such_key", f"{min(wrong)} is no key of a defender of kind {self.kind}"
            )
        return self


class ScorerProfile(_Section):
    """A scorer; its scores are kept under `name`. docs/scorers.md says what each kind needs."""

    kind: Literal["clip", "clipscore", "pickscore", "hpsv2", "imagereward", "artifact-area"]
    name: str = Field(min_length=1, max_length=40)
    path: str = ""
    """File or folder of weights; "artifact-area" has none, it asks the profile's defender."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: int = Field(default=32, ge=1, le=MAX_BATCH)
    """Pictures per call on a GPU."""
    antialias: bool = True
    """hpsv2 only: resize with antialias, as its package does under torchvision 0.17 and later."""
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """artifact-area only: findings below it do not count."""

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> ScorerProfile:
        given, area = self.model_fields_set, self.kind == "artifact-area"
        if not area and not self.path:
            raise PydanticCustomError("no_path", "path is missing: where are the weights of the scorer?")
        only = {"antialias": self.kind == "hpsv2", "min_confidence": area}
        only |= dict.fromkeys(("path", "dtype", "batch_size"), not area)
        if wrong := [key for key, fits in only.items() if key in given and not fits]:
            raise PydanticCustomError("no_such_key", f"{wrong[0]} is no key of a scorer of kind {self.kind}")
        return self


Painting = TypeVar("Painting", GeneratorProfile, InpaintingProfile)
Located = TypeVar("Located", GeneratorProfile, DefenderProfile, ScorerProfile, InpaintingProfile)
"""Sections that name a folder of weights."""


class LoopProfile(_Section):
    """Defaults of the loop: most rounds, rounds without gain before it gives up, the score it may lose."""

    rounds: int = Field(default=3, ge=1, le=MAX_ROUNDS)
    patience: int = Field(default=2, ge=1, le=MAX_ROUNDS)
    score_tolerance: float = Field(default=0.0, ge=0)
    artifact_probability: float | None = Field(default=None, ge=0, le=1)
    """In place of LEGION's own: a false alarm costs this loop a picture more, a flaw that it misses is
    what a person gets."""
    memory: bool = False
    """Whether revisions look up what helped in earlier runs. Off: where it was measured it repaired no more
    (docs/memory.md), and without it a run depends on nothing but its settings."""


class Profile(_Section):
    """One set of tools. All paths are absolute once it is loaded, except names on the hub."""

    name: str
    device: str = "cpu"
    """Such as "cuda"; "auto" is the best this machine has."""
    generator: GeneratorProfile
    defender: DefenderProfile
    selection_scorer: ScorerProfile
    reporting_scorers: tuple[ScorerProfile, ...] = ()
    modifier: ModifierProfile
    loop: LoopProfile = LoopProfile()
    inpainting: InpaintingProfile = InpaintingProfile()
    benchmark: BenchmarkProfile = BenchmarkProfile()

    @property
    def looking(self) -> dict[str, object]:
        """How the regeneration loop's defender differs from the profile's: by keys of its section."""
        eager = self.loop.artifact_probability
        return {} if eager is None or self.defender.kind != "legion" else {"artifact_probability": eager}


def bundled_profiles() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(path.stem for path in BUNDLED.glob("*.toml"))


def user_profiles() -> Path:
    """The folder of a person's own profiles; a name there wins over a bundled one."""
    from memory_bank.places import home

    return home() / "profiles"


def available_profiles() -> list[str]:
    """Names of the bundled profiles and of a person's own."""
    own = {path.stem for path in user_profiles().glob("*.toml")}
    return sorted({*bundled_profiles(), *own}, key=lambda name: (name != "tabletop", name))


def load_profile(name_or_path: str) -> Profile:
    """Read a bundled profile by name, or a file ending in .toml by path.

    Raises InvalidInput for an unknown name (with the nearest one), a file that is not TOML, a wrong key.
    """
    path, base = _locate(name_or_path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"profile {path} cannot be read: {error}") from error
    if "name" in raw:
        raise InvalidInput(f"profile {path}: 'name' is not a setting, the file's name is the profile's name")
    try:
        profile = Profile.model_validate({"name": path.stem, **raw})
    except ValidationError as error:
        raise InvalidInput(f"profile {path}: {_first_problem(error)}") from error
    return _absolute(profile, base)


def parse_scorer(values: Mapping[str, object], where: str) -> ScorerProfile:
    """A scorer's section from loose keys and values, words included. Raises InvalidInput that begins with
    `where`."""
    try:
        return ScorerProfile.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(f"{where}: {_first_problem(error)}") from error


def changed(section: DefenderProfile, changes: Mapping[str, object]) -> DefenderProfile:
    """The section with options of a command in place of its own values; what completes its own checkpoint is
    not for another one (`path`). Raises InvalidInput."""
    kept = section.model_dump(exclude_unset=True)
    if "path" in changes:
        kept = {name: value for name, value in kept.items() if name not in ("clip", "sam")}
    try:
        return DefenderProfile.model_validate({**kept, **changes})
    except ValidationError as error:
        problem = error.errors()[0]
        if not problem["loc"]:
            raise InvalidInput(problem["msg"]) from error
        option = str(problem["loc"][0]).replace("_", "-")
        raise InvalidInput(f"--{option} is {problem['input']}: {problem['msg'].lower()}") from error


def changed_generator(profile: Profile, changes: Mapping[str, object]) -> Profile:
    """The profile with options of a command in its generator's section. Another checkpoint (`path`) paints
    regions too, each with its own defaults. Raises InvalidInput."""
    if not changes:
        return profile
    try:
        section = with_changes(profile.generator, changes)
    except ValidationError as error:
        problem = error.errors()[0]
        option = "-".join(str(part).replace("_", "-") for part in problem["loc"][:1])
        said = problem["msg"][0].lower() + problem["msg"][1:]
        raise InvalidInput(f"--{option} is {problem['input']}: {said}" if option else said) from error
    inpainting = profile.inpainting
    if "path" in changes:
        own = {"path": "", "steps": None, "guidance_scale": None}
        inpainting = inpainting.model_copy(update=own)
    return profile.model_copy(update={"generator": section, "inpainting": inpainting})


def changed_modifier(section: ModifierProfile, changes: Mapping[str, object]) -> ModifierProfile:
    """The modifier's section with options of a command in place of its own values; of another kind's section
    only the vocabulary stays. Raises InvalidInput."""
    kept = section.model_dump(exclude_unset=True)
    if changes.get("kind", section.kind) != section.kind:
        kept = {"lexicon": section.lexicon}
    try:
        return ModifierProfile.model_validate({**kept, **changes})
    except ValidationError as error:
        raise InvalidInput(f"--modifier: {_first_problem(error)}") from error


def _locate(name_or_path: str) -> tuple[Path, Path]:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path).expanduser().resolve()
        if not path.is_file():
            raise InvalidInput(f"profile file {name_or_path} does not exist")
        return path, path.parent
    if (own := user_profiles() / f"{name_or_path}.toml").is_file():
        return own, own.parent
    names = available_profiles()
    if name_or_path not in names:
        near = difflib.get_close_matches(name_or_path, names, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
        raise InvalidInput(f"unknown profile '{name_or_path}': {hint} (a file of your own ends in .toml)")
    return BUNDLED / f"{name_or_path}.toml", CHECKOUT


def _first_problem(error: ValidationError) -> str:
    # A misspelled key is both unknown and missing: the first of these is what helps.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{_nearest_key(problem['loc'])}"
    if problem["type"] == "missing":
        return f"key '{where}' is missing"
    said = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    return f"'{where}': {said}" if where else said


def _nearest_key(place: tuple[int | str, ...]) -> str:
    """`: did you mean 'steps'?` for the last part of a key's place; nothing if no key is near."""
    section: Any = Profile
    for part in place[:-1]:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation)
    near = difflib.get_close_matches(str(place[-1]), section.model_fields, n=1, cutoff=0.6)
    return f": did you mean '{near[0]}'?" if near else ""


def _section_of(annotation: Any) -> Any:
    """The section itself, also where a tuple of it is meant."""
    return next((part for part in get_args(annotation) if part is not Ellipsis), annotation)


def _absolute(profile: Profile, base: Path) -> Profile:
    def place(path: str) -> str:
        return str((base / Path(path).expanduser()).resolve())

    def fixed(section: Located) -> Located:
        return section.model_copy(update={"path": place(section.path)}) if section.path else section

    def painter(section: Painting) -> Painting:
        """Painters may be named on the hub; a folder that exists wins."""
        if hub_name(section.path) and not Path(place(section.path)).exists():
            return section
        return fixed(section)

    def looking(section: DefenderProfile) -> DefenderProfile:
        """Its parts may be named on the hub; what exists wins."""
        parts = {name: given for name in ("clip", "sam") if (given := getattr(section, name))}
        here = {name: place(given) for name, given in parts.items() if Path(place(given)).exists()}
        return fixed(section).model_copy(update=here)

    benchmark = profile.benchmark
    if benchmark.judge:
        benchmark = benchmark.model_copy(update={"judge": place(benchmark.judge)})
    modifier = profile.modifier
    if modifier.gguf:
        file = (base / Path(modifier.gguf).expanduser()).resolve()
        modifier = modifier.model_copy(update={"gguf": str(file)})
    loras = tuple(lora.model_copy(update={"path": place(lora.path)}) for lora in profile.generator.loras)
    return profile.model_copy(
        update={
            "benchmark": benchmark,
            "modifier": modifier,
            "generator": painter(profile.generator).model_copy(update={"loras": loras}),
            "inpainting": painter(profile.inpainting),
            "defender": looking(profile.defender),
            "selection_scorer": fixed(profile.selection_scorer),
            "reporting_scorers": tuple(fixed(section) for section in profile.reporting_scorers),
        }
    )
