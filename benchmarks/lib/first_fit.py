"""One import and one first fit in a fresh process, timed; run by ``cold_start.py``.

``python -m lib.first_fit METHOD FILE`` fits the rows of the .npy file and prints one line of JSON.
Only the standard library is imported before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time

from lib.child import versions
from lib.methods import METHODS


def main(name: str, file: str) -> None:
    method = METHODS[name]
    began = time.perf_counter()
    method.load()
    loaded = time.perf_counter()
    import numpy as np  # not earlier: its import belongs to that of the method

    X = np.load(file)
    ready = time.perf_counter()
    method.make(None).fit(X)
    fitted = time.perf_counter()
    seconds = {"import": loaded - began, "fit": fitted - ready}
    print(json.dumps({"seconds": seconds, "versions": versions(method.packages)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
