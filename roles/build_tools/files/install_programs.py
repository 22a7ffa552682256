"""Unpack wheels that hold programs, and link each program into one directory.

Usage: install_programs.py DIRECTORY WHEEL...  The wheel of NAME is unpacked into DIRECTORY, and
DIRECTORY/bin/NAME becomes a link to the program in it.
"""

import sys
import zipfile
from pathlib import Path

directory = Path(sys.argv[1])
(directory / "bin").mkdir(exist_ok=True)
for wheel in map(Path, sys.argv[2:]):
    name = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    program = Path(name, "data", "bin", name)
    (directory / program).chmod(0o755)
    link = directory / "bin" / name
    if not link.is_symlink():
        link.symlink_to(Path("..") / program)
