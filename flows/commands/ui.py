"""`legion ui`: start, watch and approve runs in a browser."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.errors import InvalidInput
from flows.serving.places import (
    IMAGE_PORT,
    IMAGE_URL_VARIABLE,
    PREFECT_PORT,
    Address,
    checked_url,
    image_url_given,
)


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("ui", help="start, watch and approve runs in a browser")
    parser.set_defaults(handler=ui)
    parser.add_argument(
        "--host", default="127.0.0.1", help="listen there (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=PREFECT_PORT,
        metavar="N",
        help=f"Prefect's port (default: {PREFECT_PORT})",
    )
    parser.add_argument(
        "--image-port",
        type=int,
        default=IMAGE_PORT,
        metavar="N",
        help=f"the pictures' port (default: {IMAGE_PORT})",
    )
    parser.add_argument(
        "--image-url",
        metavar="URL",
        help=f"the pictures' address as the browser reaches it, if it is another ({IMAGE_URL_VARIABLE})",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        help="use this Prefect server (default: PREFECT_API_URL; without it one is started)",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="forms may name pictures below this folder (default: the current one)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="show what Prefect says")


def ui(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion ui`. Ends with exit code 0 after Ctrl-C: that is how it is meant to end."""
    from flows.serving.ui import Plan, run
    from memory_bank.places import home

    images = Address(arguments.host, arguments.image_port)
    given = checked_url(arguments.image_url, "--image-url") if arguments.image_url else image_url_given()
    if not arguments.pictures.is_dir():
        raise InvalidInput(f"--pictures {arguments.pictures} is no folder")
    plan = Plan(
        prefect=Address(arguments.host, arguments.port),
        images=images,
        image_url=given or images.url,
        pictures=arguments.pictures.resolve(),
        logs=home() / "logs",
        server_url=_server(arguments.server),
        page_url=_page(),
        verbose=arguments.verbose,
    )
    if images.public:
        _say("whoever reaches these ports can start runs and see pictures: docs/ui.md says how to guard them")
        if given is None:
            _say(f"browsers elsewhere need --image-url http://NAME:{images.port}, with this machine's name")
    run(plan, _say)
    return 0


def _server(given: str | None) -> str | None:
    """The server to use, without /api; None starts one. Raises InvalidInput."""
    for url, source in ((given, "--server"), (os.environ.get("PREFECT_API_URL"), "PREFECT_API_URL")):
        if url:
            return checked_url(url, source).removesuffix("/api")
    return None


def _page() -> str | None:
    """Where browsers find Prefect's pages, if that is told. Raises InvalidInput."""
    url = os.environ.get("PREFECT_UI_URL")
    return checked_url(url, "PREFECT_UI_URL") if url else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
