"""Unpack pure Python wheels into the environment of the interpreter that runs this.

Usage: install_wheels.py WHEEL...  A pure wheel is installed by unpacking it. That needs no pip, ensurepip or
distutils, which Debian keeps in packages of their own.
"""

import compileall
import sys
import sysconfig
import zipfile
from pathlib import Path

target = sysconfig.get_paths()["purelib"]
for wheel in map(Path, sys.argv[1:]):
    if not wheel.name.endswith("-none-any.whl"):
        sys.exit(f"{wheel.name} is not a pure Python wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
sys.exit(not compileall.compile_dir(target, quiet=1))
