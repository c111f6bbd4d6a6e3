"""`python -m streams.access`: one worker of the access stage."""

from runtime.stage.worker import main
from streams.access.app import make_stage
from streams.access.settings import Settings

if __name__ == "__main__":
    main(make_stage, Settings)
