"""What has the form of a name on the hub, and what is a path."""

import pytest

from contracts.hub import HubName, hub_file, hub_name, not_there


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("org/name", ("org/name", None, None)),
        ("org/na.me-2@v1.0", ("org/na.me-2", "v1.0", None)),
        ("org/name/weights/sam_vit_h.pth", ("org/name", None, "weights/sam_vit_h.pth")),
        ("org/name@main/sam.pth", ("org/name", "main", "sam.pth")),
    ],
)
def test_a_name_falls_into_its_parts(given, parts):
    assert hub_file(given) == HubName(*parts)
    assert (hub_name(given) is None) == (parts[2] is not None)


@pytest.mark.parametrize(
    "path", ["name", "/org/name", "./org/name", "../name", "~/name", "a b/c", "org/", ""]
)
def test_a_path_is_none(path):
    assert hub_file(path) is None


def test_what_the_client_said_is_cut_to_one_line():
    error = ConnectionError("Name or service not known\nand " + "more " * 100)
    told = str(not_there("org/name", "folder", error, "copy it here"))
    assert told == (
        "there is no folder org/name, and the hub gave nothing of that name "
        "(ConnectionError: Name or service not known): copy it here"
    )
    assert "(TimeoutError)" in str(not_there("org/name", "folder", TimeoutError(), "copy it here"))
