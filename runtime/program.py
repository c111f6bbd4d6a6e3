"""What `python -m SERVICE` does: load the settings, configure the logs, serve until asked to stop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from runtime import logs
from runtime.errors import FatalError
from runtime.lifecycle import die
from runtime.settings import ServiceSettings, load_or_exit

S = TypeVar("S", bound=ServiceSettings)


def main(
    name: str,
    settings_class: type[S],
    serve: Callable[[S], Coroutine[Any, Any, None]],
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> None:
    """Run a service; `name` is that of its log lines. A FatalError before it serves is one line and its exit code, bad
    settings are a line each and exit code 64."""
    settings = load_or_exit(settings_class)
    logs.configure(name, settings.log_format, settings.log_level)
    try:
        run(serve(settings))
    except FatalError as error:
        die(error, "start")
