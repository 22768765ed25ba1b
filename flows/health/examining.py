"""Everything that `legion doctor` looks at, each by itself: one that fails becomes a line, no end."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows.health import services, weights
from flows.profiles.loading import Profile, load_profile, user_profiles
from servers.client import Server, ServerSettings

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "prefect", "openai", "segment-anything", "sqlalchemy",
)  # fmt: skip
OPTIONAL = {
    "peft": "pip install 'legion-studio[peft]' (LoRA adapters)",
    "bitsandbytes": "pip install 'legion-studio[4bit]' (quantized loading)",
    "xllamacpp": "pip install 'legion-studio[local-llm]' (a language model in this process)",
    "prefect-dask": "pip install 'legion-studio[dask]' (a benchmark spread by Dask)",
    "prefect-ray": "pip install 'legion-studio[ray]' (a benchmark spread by Ray)",
    "psycopg": "pip install 'legion-studio[postgres]' (a database for several machines)",
    "s3fs": "pip install 'legion-studio[s3]' (pictures in an object store)",
    "tensorboard": "pip install 'legion-studio[tensorboard]' (curves of a training)",
}
PATIENCE = 3.0
"""Seconds for a server to answer."""


def examine(names: Sequence[str]) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "machine": _careful(_machine, {}),
        "packages": {name: _version(name) for name in (*PACKAGES, *OPTIONAL)},
        "services": _careful(services.examine, {}),
        "profiles": [_careful(lambda name=name: _profile(name), {"name": name}) for name in names],  # type: ignore[misc]
        "own_profiles": str(user_profiles()),
    }


def lines(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What is printed: titles, and the lines below each."""
    machine = [f"{key.replace('_', ' ')}: {value}" for key, value in found["machine"].items()]
    packages = [_package_line(name, version) for name, version in found["packages"].items()]
    said = [("machine", machine), ("packages", packages), ("services", _service_lines(found["services"]))]
    for profile in found["profiles"]:
        said.append((f"profile {profile['name']}", _profile_lines(profile)))
    parts = [part for profile in found["profiles"] for part in profile.get("parts", [])]
    missing = dict.fromkeys(part["get"] for part in parts if not part["here"])
    return [*said, ("to get what is missing", list(missing))] if missing else said


def _profile_lines(profile: dict[str, Any]) -> list[str]:
    if "problem" in profile:
        return [f"cannot be looked at: {profile['problem']}"]
    said = []
    for part in profile["parts"]:
        state = "here" if part["here"] else f"missing: {part['lacks']}"
        said.append(f"{part['part']}: {part['path']}: {state}")
    for server in profile["servers"]:
        said.append(f"{server['part']}: {server['server']}: {server['state']}")
    return said


def _service_lines(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [f"cannot be looked at: {found['problem']}"]
    rows = [(row["service"], row["place"], row["state"]) for row in found]
    return [": ".join(word for word in row if word) for row in rows]


def _package_line(name: str, version: str | None) -> str:
    if version:
        return f"{name} {version}"
    return f"{name} not installed: {OPTIONAL.get(name, f'pip install {name}')}"


def _machine() -> dict[str, str]:
    said = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    said["processors"] = str(os.cpu_count())
    said["memory"] = _careful(_memory, {"problem": "unknown"}, "problem")
    said["free_disk"] = _gigabytes(shutil.disk_usage(Path.cwd()).free)
    said["device"] = _careful(_device, {"problem": "cpu"}, "problem")
    return said


def _memory() -> str:
    return _gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return f"cuda ({name}, {_gigabytes(free)} of {_gigabytes(total)} free)"
    if torch.backends.mps.is_available():
        return "mps (memory shared with the system)"
    return "cpu (torch finds no GPU)"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _profile(name: str) -> dict[str, Any]:
    profile = load_profile(name)
    return {"name": profile.name, "parts": weights.examine(profile), "servers": _servers(profile)}


def _servers(profile: Profile) -> list[dict[str, str]]:
    """The servers that a profile names, asked for their models."""
    sections = [
        ("generator", profile.generator, profile.generator.kind == "openai-images"),
        ("defender", profile.defender, profile.defender.kind == "vlm"),
        ("modifier", profile.modifier, profile.modifier.kind == "openai"),
    ]
    return [_server(part, section) for part, section, remote in sections if remote]


def _server(part: str, section: Any) -> dict[str, str]:
    said = {"part": part, "server": section.base_url or "OpenAI"}
    try:
        server = Server(ServerSettings(section.base_url, section.key_variable, PATIENCE, attempts=1))
        offered = server.models()
    except Exception as error:
        return {**said, "state": " ".join(str(error).split())}
    missing = section.model and offered and section.model not in offered
    state = f"answers, but does not list {section.model}" if missing else "answers"
    return {**said, "server": server.name, "state": state}


def _careful(look: Callable[[], Any], otherwise: dict[str, Any], only: str = "") -> Any:
    """What was found, or the reason why it was not."""
    try:
        return look()
    except Exception as error:
        said = {**otherwise, "problem": " ".join(str(error).split()) or type(error).__name__}
        return said[only] if only else said
