"""Records that end a range."""

from tests.support.records import Chain


def busy(chain: Chain) -> None:
    chain.flow(12, messages=30, ticks=3)
