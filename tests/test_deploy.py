"""What docs/deploy.md hands out: the compose files, the systemd units and prefect.yaml are what their readers
take, and name only what this program has."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flows.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCHEMA = json.loads(
    (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8")
)


def compose(name: str = "docker-compose.yaml") -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return read


def problems(document: object) -> list[str]:
    validator = jsonschema.validators.validator_for(SCHEMA)
    validator.check_schema(SCHEMA)
    return [error.message for error in validator(SCHEMA).iter_errors(document)]


def plain(words: list[str]) -> list[str]:
    """A command with the defaults of its variables."""
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]


def variables() -> dict[str, str]:
    """What deploy/systemd/legion.env says, what is commented out left out."""
    text = (DEPLOY / "systemd" / "legion.env").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.M))


def image_paths() -> tuple[Path, str, str]:
    """Where the image's checkout is, its hub cache, and the whole Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text()
    (checkout,) = re.findall(r"^WORKDIR (/opt/\S+)$", text, re.M)
    (cache,) = re.findall(r"HF_HOME=(\S+)", text)
    return Path(checkout), cache, text


@pytest.mark.parametrize("name", ["docker-compose.yaml", "docker-compose.gpu.yaml"])
def test_compose_files_keep_the_schema(name) -> None:
    assert not problems(compose(name))


def test_the_schema_notices_what_is_wrong() -> None:
    wrong = compose()
    wrong["services"]["worker"]["comand"] = ["legion", "worker"]
    assert problems(wrong)


def test_services_name_only_what_there_is() -> None:
    whole = compose()
    services, volumes = whole["services"], whole["volumes"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert ("healthcheck" in services[other]) is healthy
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in volumes or source.startswith(("./", "${"))
            assert not source.startswith("./") or (DEPLOY / source).is_file()
    assert set(compose("docker-compose.gpu.yaml")["services"]) <= set(services)


def test_commands_of_containers_parse() -> None:
    commands = [plain(service.get("command", [])) for service in compose()["services"].values()]
    ours = [words[1:] for words in commands if words and words[0] == "legion"]
    assert {words[0] for words in ours} == {"ui", "serve", "worker"}
    for words in ours:
        build_parser().parse_args(words)


def test_nothing_listens_to_others_and_no_secret_has_a_default() -> None:
    text = (DEPLOY / "docker-compose.yaml").read_text()
    for service in compose()["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("${LEGION_BIND:-127.0.0.1}:")
    named = set(re.findall(r"^#? ?(\w+)=", (DEPLOY / "example.env").read_text(), re.M))
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"POSTGRES_PASSWORD", "S3_SECRET", "LEGION_API_TOKEN"}
    assert required < named <= set(re.findall(r"\$\{(\w+):", text))


def test_the_image_takes_the_same_torch_as_the_makefile() -> None:
    (image,) = re.findall(r'"(torch[^"]*)"', (DEPLOY / "Dockerfile").read_text())
    assert f'"{image}"' in (ROOT / "Makefile").read_text()
    assert f'"{image}"' in (ROOT / "pyproject.toml").read_text()


def test_the_models_volume_is_where_bundled_profiles_look() -> None:
    from flows.profiles.loading import BUNDLED, CHECKOUT

    checkout, cache, text = image_paths()
    (mount,) = compose()["services"]["worker"]["volumes"]
    source, target = mount.split(":")
    assert source == "models" and cache.startswith(f"{target}/")
    named = {
        name
        for file in BUNDLED.glob("*.toml")
        for name in re.findall(r'^path = "(models/.*)"', file.read_text(), re.M)
    }
    assert named and CHECKOUT == ROOT  # the image's checkout is to the image what ROOT is here
    assert all((checkout / name).is_relative_to(target) for name in named)
    # The volume takes its owner from the image's folder; a worker that is no root writes into it.
    made = [line for line in text.splitlines() if "mkdir" in line or "chown" in line]
    assert len(made) == 2 and all(" models " in line for line in made)
    assert "models" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["legion-worker@.service", "legion-serve.service"])
def test_units_take_the_profile_from_the_environment_file(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.M)
    assert command is not None and command[1].endswith("--profile ${LEGION_PROFILE}")
    assert "\nEnvironment=LEGION_PROFILE=tabletop\n" in text, "the default; the file's word stands above it"
    assert variables()["LEGION_PROFILE"] == "tabletop"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_start_commands_that_there_are(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    assert set(unit["Service"]) >= {"User", "EnvironmentFile", "ExecStart", "Restart", "TimeoutStopSec"}
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.startswith("/opt/legion/.venv/bin/")
    if program.endswith("/legion"):
        words = [re.sub(r"\$\{(\w+)\}", lambda found: variables()[found[1]], word) for word in words]
        build_parser().parse_args(words)
    else:
        assert words[:2] in (["server", "start"], ["worker", "start"])


def test_units_are_what_systemd_takes(tmp_path) -> None:
    """Where systemd is installed; everywhere, no line is lost to a misspelt form."""
    programs = {re.search(r"^ExecStart=(\S+)", path.read_text(), re.M)[1] for path in UNITS}  # type: ignore[index]
    for program in programs:
        (tmp_path / Path(program).name).write_text("#!/bin/sh\n")
        (tmp_path / Path(program).name).chmod(0o755)
    copies = []
    for path in UNITS:
        lines = [line for line in path.read_text().splitlines() if line]
        assert all(re.fullmatch(r"\[\w+\]|[A-Z]\w+=\S.*", line) for line in lines)
        # An instance of a template; its programs, and its user, are not on this machine.
        copy = tmp_path / path.name.replace("@.", "@0.")
        text = path.read_text().replace("/opt/legion/.venv/bin", str(tmp_path))
        copy.write_text(text.replace("User=legion", "User=root"))
        copies.append(str(copy))
    if verify := shutil.which("systemd-analyze"):
        done = subprocess.run([verify, "verify", "--man=no", *copies], capture_output=True, text=True)
        assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr


def test_settings_of_the_units_are_known_to_the_program() -> None:
    text = (DEPLOY / "systemd" / "legion.env").read_text() + "".join(path.read_text() for path in UNITS)
    sources = "".join(
        path.read_text() for room in ("flows", "memory_bank") for path in (ROOT / room).rglob("*.py")
    )
    for name in set(re.findall(r"\b(LEGION_[A-Z_]+)=", text)):
        assert f'"{name}"' in sources or f"${{{name}}}" in text, name


def test_prefect_yaml_announces_every_form() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel
    from prefect.flows import load_flow_from_entrypoint

    from flows.serving.deployments import FLOWS

    given = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    read = PrefectYamlModel.model_validate(given)
    assert read.pull == []  # null would let Prefect look for the code in the folder of whoever deploys
    found = [load_flow_from_entrypoint(str(item.entrypoint)) for item in read.deployments]
    assert [flow.name for flow in found] == [flow.name for flow in FLOWS]
    for item, flow in zip(read.deployments, FLOWS, strict=True):
        assert item.description == flow.description
        assert item.work_pool is not None and item.work_pool.name == "gpu"
