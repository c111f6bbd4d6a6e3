"""What the sink decides, as functions of values: where ranges end, what goes into which table, where to start."""
