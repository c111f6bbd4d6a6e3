"""`python -m tests.local.read_only FOLDER`: what `millrace up` says on a read-only file system; see namespace.py."""

import subprocess
import sys


def main() -> None:
    folder = sys.argv[1]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0700", "read-only", folder], check=True)
    done = subprocess.run([sys.executable, "-m", "cli.main", "up", "--data", folder, "--detach"], check=False)
    assert done.returncode == 1


if __name__ == "__main__":
    main()
