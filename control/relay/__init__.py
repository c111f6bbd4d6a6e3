"""The control relay: what operators decided, from `platform.control` into the stream; and the time. See README.md."""
