"""The control plane: changes of `platform.control` (log.py, decisions.py), and the relay that carries them in band."""
