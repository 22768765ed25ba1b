"""The process that serves the forms of `legion ui`: it asks Prefect for new runs and starts each in a process
of its own, so that one which is cancelled or dies takes nothing else with it.
"""

from __future__ import annotations

from typing import Any

from prefect import serve
from prefect.flows import EntrypointType

from flows.serving.deployments import FLOWS

POLL_SECONDS = 2.0
"""How often it asks."""


def main() -> None:
    """Serve until this process is told to end."""
    deployments: list[Any] = [
        item.to_deployment(
            name=item.name,
            description=item.description,
            tags=["legion"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for item in FLOWS
    ]
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False, query_seconds=POLL_SECONDS)


if __name__ == "__main__":
    main()
