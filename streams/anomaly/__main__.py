"""`python -m streams.anomaly`: one worker of the anomaly stage."""

from runtime.stage.worker import main
from streams.anomaly.app import make_stage
from streams.anomaly.settings import Settings

if __name__ == "__main__":
    main(make_stage, Settings)
