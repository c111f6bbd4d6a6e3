"""Policies: which role may publish what. Written in YAML, checked with every mistake at once, published as JSON.

    policy = check(text, "policy.yaml")      # raises PolicyError with every mistake and its line
    policy.encode()                          # value of the control record `policy`
    decode(value)                            # the same policy again

The language is described in streams/access/README.md; the shipped policies are streams/access/policies/*.yaml.
"""

from importlib import resources
from typing import Final

from streams.access.policy.check import PolicyError, check, decode
from streams.access.policy.model import MetricRule, Policy, Rate, Role

SHIPPED: Final = ("default", "loopback")


def shipped(name: str) -> str:
    """YAML of a policy that comes with Millrace. Raises KeyError for a name that is not one of SHIPPED."""
    if name not in SHIPPED:
        raise KeyError(name)
    return resources.files("streams.access").joinpath("policies", f"{name}.yaml").read_text(encoding="utf-8")


__all__ = ["SHIPPED", "MetricRule", "Policy", "PolicyError", "Rate", "Role", "check", "decode", "shipped"]
