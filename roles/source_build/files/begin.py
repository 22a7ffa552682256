"""Begin a build in the background of this host: a dropped connection does not end it.

Reads ``{"name", "prefix", "tree", "fingerprint", "archive", "script", "after"}`` on stdin, `after` a list of
builds that came before. Prints ``begun``, or ``built`` when a build whose connection was lost has done it
meanwhile. Compiling begins when the builds of `after` have ended, and only if all of them succeeded. As long
as it lasts, the file TREE.lock is locked.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath


def is_built(build):
    """Return whether a finished build stands at a prefix, made from the wanted inputs."""
    stamp = Path(build["prefix"], ".build-stamp")
    return stamp.exists() and json.loads(stamp.read_text())["fingerprint"] == build["fingerprint"]


def members(archive):
    """Yield the members with their paths shortened by one: all lies in one directory."""
    for member in archive:
        parts = PurePosixPath(member.name).parts[1:]
        if parts:
            member.name = "/".join(parts)
            yield member


def unpack(archive, directory):
    """Unpack a source archive without the directory that is all of its first level."""
    try:
        with tarfile.open(archive) as stream:
            if hasattr(tarfile, "data_filter"):
                stream.extraction_filter = staticmethod(tarfile.data_filter)
            # It has the checksum of its authors' release: Pythons too old for the filter may trust it.
            stream.extractall(directory, members(stream))  # noqa: S202
    except tarfile.ReadError:
        # This Python was built without the compression, or the file is no archive; tar will say.
        subprocess.check_call(["tar", "-xf", archive, "-C", directory, "--strip-components=1"])


def prepare(build):
    """Make a clean start: the source tree, and the script that builds it; return the script."""
    tree, script = Path(build["tree"]), Path(build["tree"] + ".sh")
    for directory in (tree, Path(build["prefix"])):
        if directory.exists():
            shutil.rmtree(directory)
    tree.mkdir()
    unpack(build["archive"], tree)
    script.write_text(build["script"])
    return script


def compile_in_turn(build, script):
    """Run the script as soon as the builds before it have ended well."""
    for earlier in build["after"]:
        with Path(earlier["tree"] + ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        if not is_built(earlier):
            log = Path(build["tree"] + ".log")
            log.write_text("Not begun, because {name} could not be built.\n".format(**earlier))
            return
    subprocess.call(["sh", str(script)])


def run(build, answer):
    """Do it all; say ``begun`` or ``built`` as soon as that is certain."""
    with Path(build["tree"] + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        due = not is_built(build)
        if due:
            script = prepare(build)
        Path(build["archive"]).unlink()
        answer.write("begun" if due else "built")
        answer.close()
        if due:
            compile_in_turn(build, script)


build = json.load(sys.stdin)
reader, writer = os.pipe()
if os.fork():
    os.close(writer)
    with os.fdopen(reader) as words:
        answer = words.read()
    print(answer)
    sys.exit(answer not in ("begun", "built"))
os.setsid()
nowhere = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(nowhere, stream)
with os.fdopen(writer, "w") as answer:
    try:
        run(build, answer)
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        answer.write(str(error))
