"""`python -m monitoring.notify`: sends incidents of devices to Alertmanager."""

from monitoring.notify.app import serve
from monitoring.notify.settings import NotifySettings
from runtime.program import main

if __name__ == "__main__":
    main("notify", NotifySettings, serve)
