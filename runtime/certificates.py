"""Until when the certificates that a process uses are valid: shown as a gauge, so that an end is seen coming."""

from pathlib import Path
from typing import Final

from prometheus_client import Gauge

END: Final = Gauge("millrace_certificate_end_timestamp_seconds", "Expiry time of a certificate", ["certificate"])


def show_file(file: Path) -> None:
    """Show the earliest end in a file of certificates (PEM). Raises OSError, ValueError when it holds none."""
    show(str(file), file.read_bytes())


def show(name: str, pem: bytes) -> None:
    """Show the earliest end of a chain. `name`: the file it is in, or the host:port that presents it."""
    from cryptography import x509  # costs 40 ms at a start, and most services use no certificate

    END.labels(name).set(min(c.not_valid_after_utc.timestamp() for c in x509.load_pem_x509_certificates(pem)))
