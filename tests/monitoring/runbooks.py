"""The runbooks and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


DOCUMENTS = [*PAGES, ROOT / "docs" / "slo.md"]


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def commands(page: Path) -> list[str]:
    """Lines of shell blocks, and commands of ours in the text; NAMES IN CAPITALS stand for what the reader knows."""
    spans = re.findall(r"`(millrace [^`]+)`", page.read_text().replace("\n", " "))
    return [
        line
        for line in (*blocks(page, "sh"), *spans)
        if line.startswith("millrace") and not re.search(r"\.\.\.|…", line)
    ]
