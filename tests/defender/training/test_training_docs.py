"""The files that docs/training.md hands out are what their readers accept."""

import re
from pathlib import Path

import pytest

from defender.training.settings import read_settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_settings_files_are_settings():
    first = read_settings(DOCS / "training" / "stage1.toml")
    schedule = first.schedule_for(11_236)
    assert (schedule.steps, schedule.decay_steps, schedule.warmup) == (703, 2109, 100)
    assert first.lora.alpha == 16 and first.validation.split == "test"
    second = read_settings(DOCS / "training" / "stage2.toml")
    assert second.stage == "2" and second.schedule_for(720_119).steps == 3 * (720_119 // 512)


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_accelerate_reads_its_files_and_would_launch_them(name):
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    path = DOCS / "training" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig) and config.num_processes == 8
    assert config.distributed_type == {"fsdp": "FSDP", "deepspeed": "DEEPSPEED"}[name]
    # Every key of the section is an option of `accelerate launch`, under the name it is read by.
    options = vars(launch_command_parser().parse_args(["--config_file", str(path), "-m", "flows.cli"]))
    section = config.fsdp_config if name == "fsdp" else config.deepspeed_config
    assert section and set(section) <= set(options)


@pytest.mark.slow
def test_the_layers_that_fsdp_is_to_wrap_exist(model):
    text = (DOCS / "training" / "fsdp.yaml").read_text()
    names = re.search(r"cls_to_wrap: (.*)", text)[1].split(",")
    classes = {type(module).__name__ for module in model.modules()}
    assert set(names) <= classes and len(names) == 3


def test_every_command_of_the_page_is_one_that_the_program_knows():
    import shlex

    from flows.cli import build_parser

    text = (DOCS / "training.md").read_text().replace("\\\n", " ")
    lines = [line.split("#")[0] for line in text.splitlines() if "train network DATASET" in line]
    commands = [
        line[line.index("train network") :] for line in lines if "..." not in line and "|" not in line
    ]
    assert len(commands) >= 6
    for command in commands:
        arguments = build_parser().parse_args(shlex.split(command))
        assert arguments.handler.__name__ == "train_network"
