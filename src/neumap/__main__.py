"""``python -m neumap`` is the ``neumap`` command."""

import sys

from neumap.cli import main

if __name__ == "__main__":
    sys.exit(main())
