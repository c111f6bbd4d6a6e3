"""`python -m monitoring.notify`: incidents of devices reach people."""

import asyncio

from monitoring.notify.app import serve
from monitoring.notify.settings import NotifySettings
from runtime.logs import configure
from runtime.settings import load_or_exit


def main() -> None:
    settings = load_or_exit(NotifySettings)
    configure("notify", settings.log_format, settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
