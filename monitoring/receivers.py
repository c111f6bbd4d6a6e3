"""Receivers of Alertmanager: its configuration, from deploy/alertmanager/alertmanager.yml and settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from runtime.settings import SettingsError, setting

_PEOPLE: Final = ("critical", "warning", "incidents")
_HEARTBEAT: Final = "heartbeat"


@dataclass(frozen=True)
class ReceiverSettings:
    """Who is notified, and how. If nothing is set, alerts are shown by Alertmanager and sent to nobody."""

    alert_webhook_url_file: Path | None = setting(
        None, doc="file that holds the URL that alerts and incidents are posted to"
    )
    alert_heartbeat_url_file: Path | None = setting(
        None, doc="file that holds the URL that the Watchdog alert is posted to every minute"
    )
    alert_mail_to: tuple[str, ...] = setting(
        (), doc="addresses that alerts and incidents are mailed to, comma-separated"
    )
    alert_mail_from: str = setting("", doc="address they come from")
    alert_mail_server: str = setting("", doc="host:port of the mail server (STARTTLS)")
    alert_mail_user: str = setting("", doc="user name at the mail server, if it requires one")
    alert_mail_password_file: str = setting("", doc="file of the password, as a path that Alertmanager can read")


def configuration(base: Mapping[str, Any], settings: ReceiverSettings) -> dict[str, Any]:
    """Alertmanager's configuration with receivers. Raises SettingsError with every mistake at once."""
    mistakes: list[str] = []
    webhook = _url(settings.alert_webhook_url_file, "WEBHOOK", mistakes)
    heartbeat = _url(settings.alert_heartbeat_url_file, "HEARTBEAT", mistakes)
    mail = _mail(settings, mistakes)
    if mistakes:
        raise SettingsError(mistakes)
    found: dict[str, Any] = {name: {} for name in (*_PEOPLE, _HEARTBEAT)}
    for name in _PEOPLE:
        if webhook:
            found[name]["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
        if mail:
            found[name]["email_configs"] = [mail | {"to": to, "send_resolved": True} for to in settings.alert_mail_to]
    if heartbeat:
        found[_HEARTBEAT]["webhook_configs"] = [{"url": heartbeat, "send_resolved": False}]
    return dict(base) | {"receivers": [{"name": name} | more for name, more in found.items()]}


def _url(file: Path | None, which: str, mistakes: list[str]) -> str | None:
    if file is None:
        return None
    name = f"MILLRACE_ALERT_{which}_URL_FILE={str(file)!r}"
    try:
        url = file.read_text().strip()
    except OSError as error:
        mistakes.append(f"{name}: {error.strerror}")
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        mistakes.append(f"{name}: holds no http or https URL")  # not printed: it may hold a token
    return url


def _mail(settings: ReceiverSettings, mistakes: list[str]) -> dict[str, Any] | None:
    given = (settings.alert_mail_from, settings.alert_mail_server, settings.alert_mail_user)
    if not settings.alert_mail_to:
        if any(given):
            mistakes.append("MILLRACE_ALERT_MAIL_TO is not set, but other settings of mail are")
        return None
    mistakes += [f"MILLRACE_ALERT_MAIL_TO: {to!r} is not an address" for to in settings.alert_mail_to if "@" not in to]
    if "@" not in settings.alert_mail_from:
        mistakes.append(f"MILLRACE_ALERT_MAIL_FROM={settings.alert_mail_from!r}: expected an address")
    if not settings.alert_mail_server.rpartition(":")[2].isdecimal():
        mistakes.append(f"MILLRACE_ALERT_MAIL_SERVER={settings.alert_mail_server!r}: expected host:port")
    if bool(settings.alert_mail_user) != bool(settings.alert_mail_password_file):
        mistakes.append("MILLRACE_ALERT_MAIL_USER and MILLRACE_ALERT_MAIL_PASSWORD_FILE belong together")
    found: dict[str, Any] = {"from": settings.alert_mail_from, "smarthost": settings.alert_mail_server}
    if settings.alert_mail_user:
        found |= {
            "auth_username": settings.alert_mail_user,
            "auth_password_file": settings.alert_mail_password_file,
        }
    return found
