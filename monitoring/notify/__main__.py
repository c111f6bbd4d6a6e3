"""`python -m monitoring.notify`: incidents of devices reach people."""

from monitoring.notify.app import serve
from monitoring.notify.settings import NotifySettings
from runtime.program import main

if __name__ == "__main__":
    main("notify", NotifySettings, serve)
