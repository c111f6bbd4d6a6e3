"""The pure part of access: records and state in, verdicts and state out. No clock, no file, no network.

topics.py    MQTT topics of a batch, parsed at once          devices.py   device ids to dense numbers
rules.py     a policy compiled to arrays                     registry.py  roles, parents and limits of devices
sequence.py  (boot, seq): repeats, gaps, old boots           runs.py      the same for one device, exactly
buckets.py   rate limits                                     replays.py   which rows were replayed
judge.py     the fate of every message of a batch            answer.py    fates to a batch of telemetry.readings
state.py     all that a partition knows                      pack.py      arrays to bytes and back
stage.py     the stage that the frame runs
"""
