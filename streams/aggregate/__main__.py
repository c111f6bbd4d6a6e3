"""`python -m streams.aggregate`: one worker of the aggregate stage."""

from runtime.stage.worker import main
from streams.aggregate.app import make_stage
from streams.aggregate.settings import Settings

if __name__ == "__main__":
    main(make_stage, Settings)
