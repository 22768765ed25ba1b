"""`legion serve`: the API for programs."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import INTERRUPTED, add_common, add_profile, waiting

if TYPE_CHECKING:
    from flows.api.service import Service
    from flows.api.settings import ApiSettings

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4280


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("serve", help="let programs ask for runs over HTTP (docs/api.md)")
    parser.set_defaults(handler=serve)
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=f"address to listen on (default: {DEFAULT_HOST})"
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"0 takes a free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the token that programs must send (default: LEGION_API_TOKEN; none on loopback)",
    )
    parser.add_argument("--queue", type=int, default=64, metavar="N", help="runs that may wait (default: 64)")
    parser.add_argument(
        "--max-upload", type=int, default=20, metavar="MB", help="of one picture (default: 20)"
    )
    parser.add_argument(
        "--max-pictures", type=int, default=2000, metavar="MB", help="of all pictures kept (default: 2000)"
    )
    parser.add_argument(
        "--allow",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose pictures may be named by path; may be repeated (default: none)",
    )
    add_profile(parser)
    add_common(parser)


def serve(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion serve`."""
    settings = _settings(arguments)
    listener = _listener(settings.host, settings.port)
    with listener:
        from flows.api.app import create_app
        from flows.api.service import Service, work_with
        from memory_bank import open_memory_bank

        bank = open_memory_bank()
        service = Service(settings, bank, work_with(_tools(settings.profile), bank))
        return _run(service, create_app(service), listener, arguments.verbose)


def _settings(arguments: argparse.Namespace) -> ApiSettings:
    from flows.api.settings import MAX_QUEUE, MEGABYTE, ApiSettings, allowed_folders, check_access, read_token
    from flows.jobs.regeneration import check_count
    from memory_bank.places import home

    check_count("queue", arguments.queue, MAX_QUEUE)
    check_count("max-upload", arguments.max_upload, 1000)
    check_count("max-pictures", arguments.max_pictures, 1_000_000)
    if not 0 <= arguments.port <= 65535:
        raise InvalidInput(f"--port is {arguments.port}: choose a number from 0 to 65535")
    return check_access(
        ApiSettings(
            folder=home() / "api",
            profile=arguments.profile,
            host=arguments.host,
            port=arguments.port,
            token=read_token(arguments.token_file),
            queue=arguments.queue,
            upload_bytes=arguments.max_upload * MEGABYTE,
            pictures_bytes=arguments.max_pictures * MEGABYTE,
            folders=allowed_folders(tuple(arguments.allow)),
        )
    )


def _listener(host: str, port: int) -> socket.socket:
    """A bound socket. Raises InvalidInput if the address cannot be listened on."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _taken(host, port, error) from error
    return listener


def _taken(host: str, port: int, error: OSError) -> InvalidInput:
    reason = error.strerror or str(error)
    return InvalidInput(
        f"cannot listen on {host}, port {port} ({reason.lower()}): choose another --port or --host"
    )


def _tools(profile: str) -> Mapping[str, Callable[[Any], Any]]:
    """Tools for jobs of each kind. Models of this process are loaded before the first job comes."""
    from flows import tools

    if not tools.with_workers():
        with waiting("loading the models"):
            from flows import assemble

            assemble.regeneration_tools(profile)
    return {"regeneration": tools.regeneration_tools, "inpainting": tools.inpainting_tools}


def _run(service: Service, app: Any, listener: socket.socket, verbose: bool) -> int:
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, *signal: Any) -> None:
            service.runner.stop(0)  # who listens to events is let go first, or the server would wait for them
            super().handle_exit(*signal)

    config = uvicorn.Config(
        app,
        log_level="info" if verbose else "warning",
        access_log=verbose,
        limit_concurrency=service.settings.connections,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        server_header=False,
        ws="none",
    )
    server = Server(config)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    try:
        listener.listen(config.backlog)  # who reads the next line and is here before uvicorn waits for it
    except OSError as error:
        raise _taken(host, port, error) from error
    print(f"listening on http://{shown}:{port}/v1 (Ctrl-C ends it)", file=sys.stderr, flush=True)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        print("stopped: runs that wait are taken up at the next start", file=sys.stderr)
        return INTERRUPTED
    return 0 if server.started else 1
