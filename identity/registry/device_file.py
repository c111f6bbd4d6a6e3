"""Devices to enrol, from a CSV file: a header line, then one device a line."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from identity.registry.core import RegistryError
from schemas.control import Device

_LABEL: Final = "label."
_COLUMNS: Final = ("id", "role", "parent")


def read(file: Path, given: Device) -> list[Device]:
    """The devices of a file with the columns id, role, parent and label.KEY. What a line leaves empty is taken from
    `given`; labels are added to those of `given`. Raises RegistryError with every mistake and its line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            wrong = [name for name in rows.fieldnames or () if name not in _COLUMNS and not name.startswith(_LABEL)]
            if wrong or "id" not in (rows.fieldnames or ()):
                what = f"unknown columns {', '.join(map(repr, wrong))}" if wrong else "no column `id`"
                raise RegistryError([f"{file}:1: {what}; expected id, role, parent, label.KEY"])
            found, mistakes = [], []
            for row in rows:
                if None in row or None in row.values():
                    mistakes.append(f"{file}:{rows.line_num}: another number of fields than the header line")
                    continue
                found.append(_device(row, given))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RegistryError([f"{file}: no CSV in UTF-8: {error}"]) from None
    except OSError as error:
        raise RegistryError([f"{file}: {error.strerror}"]) from None
    if mistakes:
        raise RegistryError(mistakes)
    return found


def _device(row: Mapping[str, str], given: Device) -> Device:
    labels = {name.removeprefix(_LABEL): text for name, text in row.items() if name.startswith(_LABEL) and text}
    return replace(
        given,
        id=row["id"],
        role=row.get("role") or given.role,
        parent=row.get("parent") or given.parent,
        labels=given.labels | labels,
    )
