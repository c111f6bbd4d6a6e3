"""What runbooks tell people to type exists: commands are parsed by the command line itself, PromQL by promtool."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from cli.main import millrace
from tests.monitoring.runbooks import DOCUMENTS, blocks, commands


def parse(words: list[str]) -> None:
    """Follow a command to its end and parse its arguments. Raises click.UsageError."""
    context = click.Context(millrace, info_name="millrace")
    command: click.Command = millrace
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    if words and words[0] != "--help" and not all(word.startswith("MILLRACE_") for word in words):
        command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_every_command_of_a_runbook_is_one_that_exists(page: Path) -> None:
    for line in commands(page):
        try:
            parse(shlex.split(line)[1:])
        except click.UsageError as error:
            pytest.fail(f"{page.stem}: {line}: {error.format_message()}")


def test_every_expression_of_the_runbooks_is_promql(tmp_path: Path) -> None:
    found = [(page.stem, line) for page in DOCUMENTS for line in blocks(page, "promql")]
    assert len(found) > 50
    rules = [{"record": f"runbook:{number}", "expr": line} for number, (_, line) in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_of_runbooks_lead_somewhere() -> None:
    for page in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.stem}: {target}"
