"""One import and one first fit in a process of their own, timed; run by ``cold_start.py``.

``python first_fit.py METHOD FILE`` fits the rows in the .npy file and prints one line of JSON.
It imports nothing but the standard library before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time

from child import versions
from methods import METHODS


def main(name: str, file: str) -> None:
    method = METHODS[name]
    began = time.perf_counter()
    method.load()
    loaded = time.perf_counter()
    import numpy as np  # not before: it would take its share out of the time of the import

    X = np.load(file)
    ready = time.perf_counter()
    method.make(None).fit(X)
    fitted = time.perf_counter()
    seconds = {"import": loaded - began, "fit": fitted - ready}
    print(json.dumps({"seconds": seconds, "versions": versions(method.packages)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
