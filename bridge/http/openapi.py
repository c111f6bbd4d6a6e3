"""The documentation that the service itself serves: OpenAPI 3.1, and a page made from it. Limits are the settings'."""

import html
from collections.abc import Sequence
from typing import Any, Final

import orjson

from bridge.http.core import stamps
from bridge.http.core.formats import FORMATS
from bridge.http.core.route import TELEMETRY_PATH
from bridge.http.settings import HttpSettings
from schemas.topics import DEVICE_ID, NAME

_EXAMPLES: Final[dict[str, Any]] = {
    "application/json": {"temperature": 21.5, "humidity": 40},
    "application/x-ndjson": '{"temperature":21.5}\n{"temperature":21.6}\n',
    "application/senml+json": [{"n": "temperature", "u": "Cel", "v": 21.5}, {"n": "humidity", "v": 40}],
    "application/senml+cbor": "81a3006b74656d7065726174757265016343656c02fb4035800000000000 (in hexadecimal)",
}
_INTRODUCTION: Final = (
    "A request is answered with 202 only after Kafka has acknowledged its messages. With any other status no message"
    " was stored, except that after 503 the messages may have been stored: send them again with the same"
    " Millrace-Boot and Millrace-Seq, and they are stored once. Permissions are checked later,"
    " by policy: a forbidden message is answered with 202 and denied in the stream."
)
_STAMP_TEXTS: Final = {
    stamps.BOOT: "A number that the device raises each time it starts.",
    stamps.SEQ: "Number of the message since that start, from 0. NDJSON: of the first line; the others count up.",
    stamps.TS: "When it was measured: milliseconds since 1970, or ISO 8601. Without it, the time of receipt.",
}


def document(settings: HttpSettings) -> dict[str, Any]:
    """The OpenAPI description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millrace: telemetry by HTTP", "version": "1", "description": _INTRODUCTION},
        "paths": {TELEMETRY_PATH: {"post": _post(settings)}},
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Printed by `millrace device add`."}
            }
        },
    }


def _post(settings: HttpSettings) -> dict[str, Any]:
    return {
        "summary": "Send one message, or many",
        "security": [{"token": []}],
        "parameters": [
            _parameter("id", "path", "Device id, as enrolled.", f"^{DEVICE_ID}$"),
            _parameter("channel", "path", "Channel, such as climate.", f"^{NAME}$"),
            *(_parameter(name, "header", text) for name, text in _STAMP_TEXTS.items()),
            _parameter("Content-Encoding", "header", "gzip or zstd."),
        ],
        "requestBody": {
            "required": True,
            "content": {f.media_type: {"example": _EXAMPLES[f.media_type]} for f in FORMATS},
        },
        "responses": {status: {"description": text} for status, text in _answers(settings).items()},
    }


def _parameter(name: str, where: str, text: str, pattern: str | None = None) -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return {"name": name, "in": where, "required": where == "path", "description": text, "schema": schema}


def _answers(settings: HttpSettings) -> dict[str, str]:
    return {
        "202": 'Kafka holds it. {"messages": number of messages}',
        "400": 'Not even syntax. {"error": …, "line": from 1, "column": characters from 1, "byte": from 0}'
        " of the body after decompression.",
        "401": "Unknown or removed device, or not its token.",
        "404": "No such path.",
        "405": "Not a POST.",
        "408": f"The body was not there whole after {settings.body_timeout_s:g} s.",
        "413": f"Larger than {settings.max_body_bytes} bytes as sent, {settings.max_decoded_bytes} decompressed,"
        f" {settings.payload_bytes} a message, or more than {settings.max_messages} messages.",
        "415": "Unknown Content-Type or Content-Encoding.",
        "417": "Another Expect than 100-continue.",
        "429": f"More than {settings.device_requests} requests of the device in flight, or more than"
        f" {settings.device_requests_per_s:g} a second. Retry-After says when.",
        "503": "Kafka is slow or unavailable. Retry-After says when.",
    }


def pages(settings: HttpSettings) -> dict[str, tuple[bytes, str]]:
    """Bodies and content types by path."""
    described = document(settings)
    return {
        "/openapi.json": (orjson.dumps(described), "application/json"),
        "/docs": (page(described).encode(), "text/html"),
    }


def page(described: dict[str, Any]) -> str:
    """The description as one page that needs nothing from elsewhere."""
    ((path, methods),) = described["paths"].items()
    post = methods["post"]
    parameters = [(p["name"], p["in"], p["description"]) for p in post["parameters"]]
    bodies = [(kind, _shown(body["example"])) for kind, body in post["requestBody"]["content"].items()]
    parts = [
        f"<h1>{_text(described['info']['title'])}</h1><p>{_text(described['info']['description'])}</p>",
        f"<h2>POST <code>{_text(path)}</code></h2>",
        "<p>Header <code>Authorization: Bearer TOKEN</code>; the token is printed by <code>millrace device add</code>.",
        f"<pre>{_text(_CURL)}</pre>",
        "<h2>Parameters</h2>" + _table(("name", "in", "meaning"), parameters),
        "<h2>Bodies</h2>" + _table(("Content-Type", "example"), bodies),
        "<h2>Answers</h2>"
        + _table(("status", "meaning"), [(s, r["description"]) for s, r in post["responses"].items()]),
        '<p><a href="/openapi.json">openapi.json</a></p>',
    ]
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>Millrace</title>{_STYLE}{''.join(parts)}</html>"


_CURL: Final = """curl -X POST $MILLRACE_DEVICE_HTTP_URL/v1/devices/sensor-1/telemetry/climate \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -H "Millrace-Boot: 1" -H "Millrace-Seq: 0" -d '{"temperature":21.5}'"""
_STYLE: Final = (
    "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "pre{background:#f3f3f3;padding:1rem;overflow:auto}</style>"
)


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else orjson.dumps(example).decode()


def _text(value: str) -> str:
    return html.escape(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
