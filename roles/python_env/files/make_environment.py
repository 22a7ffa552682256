"""Make a Python environment of pure Python wheels.

Usage: make_environment.py PYTHON DIRECTORY FINGERPRINT WHEEL...  A pure wheel is installed by unpacking it.
That needs no pip, ensurepip or distutils, which Debian keeps in packages of their own, and of PYTHON not even
zlib, which one built from source lacks on a host without its header.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

interpreter, directory, fingerprint, *wheels = sys.argv[1:]
# An earlier environment that does not fit goes.
if Path(directory).exists():
    shutil.rmtree(directory)
subprocess.check_call([interpreter, "-m", "venv", "--without-pip", directory])
python = str(Path(directory, "bin", "python"))
ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
target = subprocess.check_output([python, "-c", ask], universal_newlines=True).strip()
for wheel in map(Path, wheels):
    if not wheel.name.endswith("-none-any.whl"):
        sys.exit(f"{wheel.name} is not a pure Python wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
subprocess.check_call([python, "-m", "compileall", "-q", target])
# The stamp comes last: without it the next run starts over.
Path(directory, ".build-stamp").write_text(fingerprint + "\n")
