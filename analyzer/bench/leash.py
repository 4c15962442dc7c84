"""A program that runs another one and ends it with its owner.

Its arguments are LIMIT_S OUT ERR COMMAND... It is run by its path, so that it starts in a hundredth
of a second, and uses only the standard library. The command runs in a session of its own, its
output going to the two files. It is killed, and with it every process that it has started in that
session, when LIMIT_S seconds are over or when standard input closes: that happens however the owner
ends, by `kill -9`, too. Standard output is one JSON object: how it ended and what it has used.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

KILOBYTE = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


def main(argv: Sequence[str]) -> int:
    """Run the command to its end, or to that of the leash."""
    limit_s, out, err, *command = argv
    with open(out, "wb") as output, open(err, "wb") as errors:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    leash = _Leash(process.pid)
    threading.Thread(target=leash.hold, args=(float(limit_s),), daemon=True).start()
    # The dead process stays in the table, so its number, the group's, cannot be another's yet.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - start
    leash.release()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ending = {
        "exit_code": process.returncode,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * KILOBYTE,
        "overtime": leash.overtime,
    }
    sys.stdout.write(json.dumps(ending))
    return 0


class _Leash:
    """The group of a process that has not been waited for yet."""

    def __init__(self, group: int) -> None:
        self.overtime = False
        self._group: int | None = group
        self._lock = threading.Lock()

    def hold(self, limit_s: float) -> None:
        """Kill the group when the time is over, or standard input is."""
        closed, _, _ = select.select([0], [], [], limit_s)
        with self._lock:
            self.overtime = not closed and self._group is not None
            self._kill()

    def release(self) -> None:
        """Kill what the process has left behind; from here on its group is nobody's."""
        with self._lock:
            self._kill()
            self._group = None

    def _kill(self) -> None:
        if self._group is None:
            return
        try:
            os.killpg(self._group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS: only the dead one is left
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
