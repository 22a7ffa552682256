"""What the agent said about a host, as far as planning and comparing need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.experiment import WIRE, digest


@dataclass(frozen=True, slots=True)
class LighttpdBuild:
    """One lighttpd that stands on a host."""

    version: str
    path: str
    modules: str
    fingerprint: str
    default: bool


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A view of the agent's `facts` document.

    Parameters
    ----------
    document : mapping
        The document as the agent printed it; it goes into the results unchanged.
    """

    document: Mapping[str, Any]

    @property
    def cpus(self) -> tuple[int, ...]:
        """CPUs that processes on the host may use."""
        return tuple(self.document["cpus"])

    @property
    def cores(self) -> int:
        """Number of those CPUs."""
        return len(self.cpus)

    @property
    def prefix(self) -> str:
        """Directory of everything that provisioning left there."""
        return str(self.document["prefix"])

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """What provisioning wrote about itself; None where it never finished."""
        manifest: Mapping[str, Any] | None = self.document.get("manifest")
        return manifest

    @property
    def lock(self) -> Mapping[str, Any] | None:
        """Who measures on the host at this moment."""
        holder: Mapping[str, Any] | None = self.document.get("lock")
        return holder

    @property
    def lighttpd(self) -> tuple[LighttpdBuild, ...]:
        """The versions of lighttpd on the host."""
        builds = (self.manifest or {}).get("lighttpd", ())
        return tuple(
            LighttpdBuild(
                version=str(build["version"]),
                path=str(build["path"]),
                modules=str(build.get("modules", "")),
                fingerprint=str(build["fingerprint"]),
                default=bool(build.get("default")),
            )
            for build in builds
        )

    def lighttpd_build(self, version: str) -> LighttpdBuild | None:
        """Return the build of a version, or of the default version for `default`."""
        for build in self.lighttpd:
            if build.version == version or (version == "default" and build.default):
                return build
        return self.lighttpd[0] if version == "default" and self.lighttpd else None

    def handler(self, name: str) -> Mapping[str, Any] | None:
        """Return what the host knows about a handler."""
        return self._named("handlers", name)

    @property
    def absent_handlers(self) -> Mapping[str, str]:
        """Handlers that cannot run on the host, and why."""
        return {entry["name"]: entry["reason"] for entry in self.document.get("absent_handlers") or ()}

    def workload(self, name: str) -> Mapping[str, Any] | None:
        """Return what the host knows about a workload."""
        return self._named("workloads", name)

    def load_generator(self, tool: str) -> Mapping[str, Any] | None:
        """Return what is known of a load generator, its path at least; the one on the wire is the agent."""
        manifest = self.manifest or {}
        found: Mapping[str, Any] | None
        found = manifest.get("agent") if tool == WIRE else manifest.get("load_generators", {}).get(tool)
        return found

    def python(self, name: str) -> Mapping[str, Any] | None:
        """Return the interpreter of this name, or the default one for `default`."""
        pythons: Sequence[Mapping[str, Any]] = (self.manifest or {}).get("python", ())
        for python in pythons:
            if python.get("name") == name or (name == "default" and python.get("default")):
                return python
        return pythons[0] if name == "default" and pythons else None

    def label(self, host: str) -> str:
        """Name the host as the 2007 study did, such as `lab-2core_x86_64-1x2c_linux`."""
        sockets = int(self.document.get("sockets") or 1)
        sockets = sockets if self.cores % sockets == 0 else 1
        arch, system = self.document.get("arch", "unknown"), self.document.get("os", "unknown")
        return f"{host}_{arch}-{sockets}x{self.cores // sockets}c_{system}"

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that must not change while a run is measured, under names people can read."""
        manifest = self.manifest or {}
        document = self.document
        return {
            "agent": (document.get("agent") or {}).get("fingerprint"),
            "handlers": (manifest.get("handlers") or {}).get("fingerprint"),
            "native_handlers": (manifest.get("handlers") or {}).get("native"),
            "lighttpd": {build.version: build.fingerprint for build in self.lighttpd},
            "python": digest(manifest.get("python")),
            "load_generators": digest(manifest.get("load_generators")),
            "prefix": document.get("prefix"),
            "hostname": document.get("hostname"),
            "cpu_model": document.get("cpu_model"),
            "cpus": list(self.cpus),
            "cores": self.cores,
            "arch": document.get("arch"),
            "kernel": document.get("kernel"),
            "os_release": document.get("os_release"),
            "governor": document.get("governor"),
            "turbo": document.get("turbo"),
            "virtualisation": document.get("virtualisation"),
        }

    def _named(self, key: str, name: str) -> Mapping[str, Any] | None:
        for entry in self.document.get(key) or ():
            if entry["name"] == name:
                found: Mapping[str, Any] = entry
                return found
        return None
