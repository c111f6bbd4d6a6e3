"""`python -m streams.presence`: one worker of the presence stage."""

from runtime.stage.worker import main
from streams.presence.app import make_stage
from streams.presence.settings import Settings

if __name__ == "__main__":
    main(make_stage, Settings)
