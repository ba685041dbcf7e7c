# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of its files, by the profile Workflow Run RO-Crate (https://w3id.org/ro/wfrun/workflow/0.5).

The run of the workflow is one action, and each record another: made by a version of ``dcae`` with its packages, from
entries, on a device, at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dcae import __version__
from dcae.benchmark import Benchmark, Record
from dcae.benchmark.config import split_seed
from workflow import layout
from workflow.bundle.contents import CONFIG, WORKFLOW

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
VERSION = "1.1"  # of RO-Crate, that the profiles extend
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
SHA256 = "https://w3id.org/ro/terms/workflow-run#sha256"  # the context of RO-Crate 1.1 has no such term
LICENCE = "https://spdx.org/licenses/Apache-2.0"
AUTHORS = "The maintainers of the dcae benchmark"  # as in CITATION.cff
FORMATS = {
    ".csv": "text/csv", ".html": "text/html", ".json": "application/json", ".jsonl": "application/jsonl",
    ".md": "text/markdown", ".parquet": "application/vnd.apache.parquet", ".pdf": "application/pdf",
    ".png": "image/png", ".safetensors": "application/octet-stream", ".tex": "text/x-tex", ".yaml": "application/yaml",
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """Size in bytes and sha256 of a file."""

    size: int
    sha256: str


def metadata(benchmark: Benchmark, files: Mapping[str, Path], written: Mapping[str, Content]) -> str:
    """Return the text of a bundle's ``ro-crate-metadata.json``.

    Args:
        files: where the records of the bundle are, by their paths in it.
        written: all files of the bundle.

    Raises:
        RecordError: a record is damaged.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version=VERSION)
    crate.metadata.extra_terms["sha256"] = SHA256
    for name, content in written.items():
        _add_file(crate, name, content)
    records = {name: Record.read(files[name]) for name in written if _is_record(name, benchmark)}
    _describe(crate, benchmark, records.values())
    _add_run(crate, benchmark, written, records.values())
    makers = _Makers(crate)
    for name, record in records.items():
        _add_action(crate, benchmark, name, record, makers)
    return json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _is_record(name: str, benchmark: Benchmark) -> bool:
    return PurePosixPath(name).is_relative_to(layout.file(benchmark.name, layout.RECORDS))


def _entity(crate: ROCrate, identifier: str, kind: str, /, **properties: Any) -> ContextEntity:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))


def _add_file(crate: ROCrate, name: str, content: Content) -> None:
    properties = {
        "name": name,
        "contentSize": str(content.size),
        "sha256": content.sha256,
        "encodingFormat": FORMATS.get(PurePosixPath(name).suffix, "text/plain"),
    }
    if name == WORKFLOW:
        properties["version"] = __version__
        crate.add_workflow(dest_path=name, main=True, lang="snakemake", properties=properties)
    else:
        crate.add_file(dest_path=name, properties=properties)


def _describe(crate: ROCrate, benchmark: Benchmark, records: Iterable[Record]) -> None:
    crate.name = f"Results of the benchmark {benchmark.name}"
    crate.description = benchmark.content.description or crate.name
    crate.datePublished = datetime.fromisoformat(max(each.provenance.created for each in records))
    crate.license = _entity(crate, LICENCE, "CreativeWork", name="Apache License 2.0", identifier="Apache-2.0")
    crate.root_dataset["author"] = crate.publisher = _entity(crate, "#authors", "Organization", name=AUTHORS)
    for identifier, name in PROFILES.items():
        profile = _entity(crate, identifier, "CreativeWork", name=name, version=identifier.rsplit("/", 1)[-1])
        crate.root_dataset.append_to("conformsTo", profile)


def _add_run(crate: ROCrate, benchmark: Benchmark, names: Iterable[str], records: Iterable[Record]) -> None:
    """Add the action of the whole run: from the configuration to tables, figures, page and records."""
    results = layout.file(benchmark.name, "")
    parts = [crate.get(name) for name in names if PurePosixPath(name).is_relative_to(results)]
    times = [_times(each) for each in records]
    action = _entity(
        crate, "#run", "CreateAction", name=f"run of the benchmark {benchmark.name}",
        description="what is missing or stale, by Snakemake; the times are those of the records",
        instrument=crate.mainEntity, result=parts,
        object=[crate.get(name) for name in names if name.startswith(f"{CONFIG}/")],
        startTime=min(start for start, _ in times), endTime=max(end for _, end in times),
    )  # fmt: skip
    crate.root_dataset.append_to("mentions", action)


def _times(record: Record) -> tuple[str, str]:
    end = datetime.fromisoformat(record.provenance.created)
    start = end - timedelta(seconds=round(record.provenance.wall_seconds))
    return start.isoformat(), end.isoformat()


class _Makers:
    """The programs and devices that made records, each once in the crate."""

    def __init__(self, crate: ROCrate):
        self.crate = crate
        self._found: dict[str, ContextEntity] = {}

    def software(self, record: Record) -> ContextEntity:
        """Return the version of ``dcae`` that made a record, with its packages and where it ran."""
        made = record.provenance
        changes = " with uncommitted changes" if made.git_dirty else ""
        return self._once(
            "software", "SoftwareApplication", name="dcae", softwareVersion=made.version,
            **({"identifier": f"git commit {made.git_commit}{changes}"} if made.git_commit else {}),
            description=f"sources {made.code_digest}", operatingSystem=made.platform,
            softwareRequirements=[
                self._once("package", "SoftwareApplication", name=name, softwareVersion=version)
                for name, version in {"python": made.python, **made.packages}.items()
            ],
        )  # fmt: skip

    def device(self, record: Record) -> ContextEntity:
        described = "; ".join(f"{name}: {value}" for name, value in record.device.items())
        return self._once("device", "PropertyValue", name="device", value=described)

    def _once(self, kind: str, entity_type: str, **properties: Any) -> ContextEntity:
        key = json.dumps([kind, properties], default=lambda entity: entity.id)
        if key not in self._found:
            number = sum(each.id.startswith(f"#{kind}-") for each in self._found.values()) + 1
            self._found[key] = _entity(self.crate, f"#{kind}-{number}", entity_type, **properties)
        return self._found[key]


def _add_action(crate: ROCrate, benchmark: Benchmark, name: str, record: Record, makers: _Makers) -> None:
    """Add the action that made a record, and the rows and samples beside it."""
    cell = PurePosixPath(name).relative_to(layout.file(benchmark.name, layout.RECORDS)).with_suffix("")
    beside = {
        "reconstruction": (layout.PER_IMAGE, layout.RECONSTRUCTION_SAMPLES),
        "generation": (layout.GENERATION_SAMPLES,),
    }
    made = [str(layout.file(benchmark.name, each, **record.cell)) for each in beside.get(record.kind, ())]
    start, end = _times(record)
    action = _entity(
        crate, f"#{cell}", "CreateAction", name=f"{record.kind}: {cell.relative_to(record.kind)}",
        description=record.provenance.command, instrument=makers.software(record),
        object=_present(crate, _entries(benchmark, record)), result=_present(crate, [name, *made]),
        startTime=start, endTime=end, additionalProperty=makers.device(record),
    )  # fmt: skip
    crate.root_dataset.append_to("mentions", action)


def _entries(benchmark: Benchmark, record: Record) -> Iterable[str]:
    """Return the files of the entries that a record names."""
    yield f"{CONFIG}/{benchmark.path.name}"
    for field, kind in {"dataset": "datasets", "autoencoder": "autoencoders", "diffusion": "diffusion"}.items():
        if field in record.cell:
            yield f"{CONFIG}/{kind}/{split_seed(record.cell[field])[0]}.yaml"
    yield from (f"{CONFIG}/protocols/{each}.yaml" for each in (record.protocol.get("name"), *record.further) if each)


def _present(crate: ROCrate, names: Iterable[str]) -> ContextEntity | list[ContextEntity]:
    """Return the files that the crate has; a single one without a list, as the specification wants it."""
    found = [entity for entity in map(crate.get, names) if entity]
    return found[0] if len(found) == 1 else found
