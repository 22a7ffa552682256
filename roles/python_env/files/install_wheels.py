"""Unpack pure Python wheels into an environment.

Usage: install_wheels.py PYTHON WHEEL...  PYTHON is that of the environment. A pure wheel is installed by
unpacking it. That needs no pip, ensurepip or distutils, which Debian keeps in packages of their own, and of
PYTHON not even zlib, which one built from source lacks on a host without its header.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

python, *wheels = sys.argv[1:]
ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
target = subprocess.check_output([python, "-c", ask], text=True).strip()
for wheel in map(Path, wheels):
    if not wheel.name.endswith("-none-any.whl"):
        sys.exit(f"{wheel.name} is not a pure Python wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
sys.exit(subprocess.call([python, "-m", "compileall", "-q", target]))
