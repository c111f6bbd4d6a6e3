"""The pure core of presence: records of telemetry.readings in, devices that came or went out.

state.py      one partition: records, what operators decide, snapshots
watch.py      what messages, tellings and the passing of time change
devices.py    what is known of each device, in arrays by its number
signals.py    who sent a message in a record, who was reported to connect or disconnect
learning.py   how long a device may be silent, learned from the gaps between its messages
damping.py    devices that come and go too often
deadlines.py  whose time has passed, without looking at everybody
rows.py       changes as a batch of telemetry.presence
"""
