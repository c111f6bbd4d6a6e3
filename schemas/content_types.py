"""Content types of payloads, the same by MQTT and by HTTP.

Parameters have no effect (RFC 8259, 11: not even charset): what is to be UTF-8 is checked byte by byte.
"""

from typing import Final

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
"""A message a line; by HTTP alone."""
SENML_JSON: Final = "application/senml+json"
SENML_CBOR: Final = "application/senml+cbor"
ARROW: Final = "application/vnd.apache.arrow.stream"
"""By MQTT alone."""
_OTHER_NAMES: Final = {"text/json": JSON, "application/ndjson": NDJSON}


def media_type(content_type: str | None) -> str:
    """The media type under its usual name: lower case, without parameters; empty when absent. Known or not."""
    media = (content_type or "").partition(";")[0].strip().lower()
    return _OTHER_NAMES.get(media, media)
