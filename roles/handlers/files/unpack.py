"""Unpack the handlers and compile them.

Usage: unpack.py DIRECTORY FINGERPRINT PYTHON...  DIRECTORY.zip becomes DIRECTORY; each PYTHON compiles
what is in it for itself.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

directory, fingerprint, *pythons = sys.argv[1:]
# A fresh directory each time: a handler that left the project must not stay behind.
if Path(directory).exists():
    shutil.rmtree(directory)
bundle = Path(directory + ".zip")
with zipfile.ZipFile(bundle) as archive:
    archive.extractall(directory)
bundle.unlink()
for python in pythons:
    subprocess.check_call([python, "-m", "compileall", "-q", directory])
# The stamp comes last: without it the next run starts over.
Path(directory, ".build-stamp").write_text(fingerprint + "\n")
