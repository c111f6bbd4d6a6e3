"""What operators do to a platform, as functions: typed arguments, typed results, no terminal.

The command and the console call them.
"""
