"""`python -m local.engines.warm`: start Kafka once and keep its classes as the JVM has them: later starts are quick."""

import tempfile
from pathlib import Path

from local.engines.kafka import ARCHIVE, Kafka
from local.ports import free
from local.programs import launch


def main() -> None:
    """Called by setup. The archive is only a shortcut: a JVM that it does not fit ignores it."""
    ARCHIVE.unlink(missing_ok=True)
    new = ARCHIVE.with_suffix(".new")
    with tempfile.TemporaryDirectory() as folder:
        port, controller_port = free(2)
        node = Kafka(Path(folder) / "kafka", port, controller_port, jvm=(f"-XX:ArchiveClassesAtExit={new}",))
        launch(node.program(), Path(folder) / "kafka.log", 120).stop()
    if new.exists():
        new.rename(ARCHIVE)


if __name__ == "__main__":
    main()
