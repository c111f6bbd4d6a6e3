"""Launchers of the engines: each writes its configuration into a folder and says how to run, probe and end it."""
