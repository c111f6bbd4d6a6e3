"""`python -m tests.aggregate.newer`: the aggregate stage of the next logic version, which can go on from this one's."""

from runtime.stage.worker import main
from streams.aggregate import app
from streams.aggregate.settings import Settings


class Newer(app.Stage):
    logic_version = app.Stage.logic_version + 1
    reads = (app.Stage.logic_version,)


def make_stage(settings: Settings) -> Newer:
    app.make_stage(settings)  # warm
    return Newer()


if __name__ == "__main__":
    main(make_stage, Settings)
