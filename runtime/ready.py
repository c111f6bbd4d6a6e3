"""`python -m runtime.ready HOST:PORT`: exit code 0 when the service there is ready. For container health checks."""

import sys
import urllib.request


def main() -> int:
    try:
        with urllib.request.urlopen(f"http://{sys.argv[1]}/health/ready", timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, IndexError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
