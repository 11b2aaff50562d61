"""Cases of a worker process that end, hang, grow or die. Its imports are light, since each worker repeats them."""

import os

from benchmarks.watchdog import READ, Outcome, measured


def watched(limit):
    """Return a function of one case."""

    def run(case):
        if case == "hang":
            while True:
                pass
        if case == "grow":
            held = []
            while True:
                held.append(b"\1" * 50_000_000)
        if case == "die":
            os._exit(11)
        if case == "hold":
            return measured(lambda: Outcome(READ, str(len(b"\1" * 100_000_000))))
        return measured(lambda: Outcome(READ, f"{case} of {limit}"))

    return run
