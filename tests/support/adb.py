"""A stand-in for adb: the command line of `adb -s SERIAL push|shell`, on this machine.

As the real one: `push FILES... DIRECTORY/` says on standard output what it pushed and fails where
the directory is missing, `shell` gives its words, joined by spaces, to a shell and passes its exit
code on, and an unknown serial number is `error: device 'X' not found` with status 1.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SERIAL = "R58M123ABC"


def install(directory: Path) -> Path:
    """Write an executable `adb` into a directory, and return the log of its calls."""
    script = directory / "adb"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return directory / "adb.log"


def main(arguments: list[str]) -> int:
    """Do as adb does."""
    with Path(os.environ["ADB_LOG"]).open("a", encoding="utf-8") as log:
        log.write(" ".join(arguments) + "\n")
    flag, serial, verb, *rest = arguments
    if flag != "-s" or serial != SERIAL:
        sys.stderr.write(f"adb: device '{serial}' not found\n")
        return 1
    if verb == "shell":
        return subprocess.run(["sh", "-c", " ".join(rest)], check=False).returncode
    if verb != "push":
        sys.stderr.write(f"adb: unknown command {verb}\n")
        return 1
    *files, directory = rest
    for file in files:
        if not Path(directory).is_dir():
            sys.stderr.write(f"adb: error: failed to copy '{file}' to '{directory}'\n")
            return 1
        shutil.copy(file, directory)
    sys.stdout.write(f"{len(files)} files pushed, 0 skipped.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
