"""The bill of materials of a wheel: CycloneDX JSON with every package of the lock file that the wheel needs.

A package's hashes are those of the files that may be installed of it, one for each platform. So they are not the hashes
of one component but of its distribution, as the tools of CycloneDX write them for a requirements file.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from tools.release.lock import OURS, LockedPackage, closure, needs

SCHEMA = SchemaVersion.V1_6
MARKER = "slotwire:marker"
"""The property that says where a package is installed."""
_NAMESPACE = uuid.UUID("6b7b1f0a-6a86-5f0f-9f5d-0d6d1f6a2c11")


@dataclass(frozen=True)
class Wheel:
    """A wheel that was built.

    Attributes:
        path: the file, named `NAME-VERSION-py3-none-any.whl`.
        needs: the packages that it asks for by name; None for all that the lock file lists for the project.
    """

    path: Path
    needs: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Its distribution."""
        return self.path.name.split("-")[0].replace("_", "-")

    @property
    def version(self) -> str:
        """Its version."""
        return self.path.name.split("-")[1]

    @property
    def sha256(self) -> str:
        """The hash of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def bill_of_materials(wheel: Wheel, packages: Iterable[LockedPackage], *, epoch: int) -> str:
    """Write the bill of a wheel: the same text for the same wheel, lock file and time.

    Args:
        wheel: what the bill is for.
        packages: of the lock file.
        epoch: the time of the commit, in seconds since 1970.
    """
    listed = tuple(packages)
    needed = dict(needs(listed))
    direct = wheel.needs if wheel.needs is not None else needed[OURS]
    components = {package.name: _component(package) for package in closure(listed, direct)}
    subject = _subject(wheel)
    bill = Bom(components=components.values(), serial_number=uuid.uuid5(_NAMESPACE, wheel.sha256))
    bill.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bill.metadata.component = subject
    bill.register_dependency(subject, [components[name] for name in direct])
    for name, component in components.items():
        bill.register_dependency(component, [components[other] for other in needed.get(name, ())])
    return f"{make_outputter(bill, OutputFormat.JSON, SCHEMA).output_as_string(indent=2)}\n"


def _subject(wheel: Wheel) -> Component:
    url = PackageURL("generic", name=wheel.name, version=wheel.version)
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.APPLICATION if wheel.needs is None else ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
    )


def _component(package: LockedPackage) -> Component:
    url = PackageURL("pypi", name=package.name, version=package.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(url.to_string()),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=found) for found in package.hashes],
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        external_references=[files],
        properties=[Property(name=MARKER, value=package.marker)] if package.marker else [],
    )


def requirement_name(requirement: str) -> str:
    """Return the name in a requirement such as `pydantic>=2.14,<3`, normalized."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement.strip())[0]).lower()
