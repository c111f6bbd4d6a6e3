"""The pure part of access: records and state in, verdicts and state out. No clock, no file, no network.

topics.py    MQTT topics of a batch, parsed at once          registry.py  roles, parents and limits of devices
rules.py     a policy compiled to arrays                     runs.py      (boot, seq) of one device, exactly
sequence.py  (boot, seq): repeats, gaps, old boots           replays.py   which rows were replayed
buckets.py   rate limits                                     events.py    rows that become events
judge.py     the fate of every message of a batch            answer.py    fates to a batch of telemetry.readings
state.py     all that a partition knows                      stage.py     the stage that the frame runs
warm.py      what would cost the first record its time, done at the start
"""
