"""The pure part of anomaly: records and state in, strange readings and incidents out. No clock, no file, no network.

state.py, stage.py   records in, records out, snapshots        watch.py      what comes of readings, ticks, settings
rows.py              a batch as columns                        parts.py      all that a partition knows
plan.py              settings compiled to arrays               sequence.py   rows by series, each with what was before
memory.py, owners.py what is known of series and devices       points.py     strange readings as detectors find them
residual.py, residual_kernel.py   not like it was before       fixed.py      limits, rate, stuck value
silence.py           no readings                               marks.py      what operators said
incidents.py         points become incidents                   ids.py        names that are functions of what they name
shifts.py            many devices at once, counted             grouping.py   the same at work
incident_rows.py, outputs.py, explain.py   output rows, and their texts     warm.py   before the first record
"""
