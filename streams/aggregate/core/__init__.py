"""What the aggregate stage makes of each record. Pure: no clock, no Kafka.

state.py     all that is known of one partition, and what follows from each record; stage.py: as the frame runs it
readings.py  a batch of telemetry.readings as columns of what is to be folded
windows.py   open windows by (series, window)
closing.py   which of them are due, and as what they are written
partials.py  the columns of partial aggregates and how they add up
sketches.py  how often each bucket occurred in each open window
groups.py    partials of groups out of those of devices
rows.py      partials to a batch of telemetry.aggregates
"""
