"""The simulated fleet, and replay of files: devices that use real MQTT and HTTP, with known numbers of every fate.

    kinds, population   who there is: climate sensors, motors, meters, gateways with children
    faults, signals     what they measure: daily patterns, noise, spikes, drifts, stuck sensors, drop-outs
    schedule, payloads  what they say: which message when, in which form, with which fate; `plan` puts it together
    packets             MQTT 5 as bytes
    mqtt, http          real connections
    simulate            a plan, paced, over real connections
    series, replay      files of the past, row by row

All but mqtt, http, simulate and replay are pure and give the same for the same seed.
"""
