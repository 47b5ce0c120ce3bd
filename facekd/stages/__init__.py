"""Where the commands lay before: ``from facekd.stages.align import align`` still works, and says where they are now."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MOVED = {"teacher": "train_teacher"}  # the other modules of facekd.commands have the names they had
# What a command gives back, where it lies elsewhere now or is called otherwise.
RESULTS = {
    "align": {"AlignSummary": "facekd.ingest.corpus:AlignSummary"},
    "audit": {"Suspect": "facekd.commands.audit:DoubtfulCrop"},
    "cache": {"Asked": "facekd.settings.training:TeacherViews"},
    "compare": {"Comparison": "facekd.commands.compare:NetworkComparison"},
    "embed": {"EmbedSummary": "facekd.ingest.embedding:EmbedSummary"},
    "enroll": {"EnrollSummary": "facekd.enrollment.report:EnrollSummary"},
    "gallery_migrate": {"Migrated": "facekd.enrollment.migration:Migrated"},
    "identify": {
        "IdentifiedFace": "facekd.enrollment.answers:IdentifiedFace",
        "Identification": "facekd.enrollment.answers:Identification",
    },
    "teacher": {"Trained": "facekd.core.run:Trained"},
}


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        home, _, last = name.rpartition(".")
        here = f"facekd.commands.{MOVED.get(last, last)}"
        if home != __name__ or importlib.util.find_spec(here) is None:
            return None
        warnings.warn(f"{name} is {here} now; 'import facekd' has the commands too", FutureWarning, stacklevel=2)
        return importlib.machinery.ModuleSpec(name, self, origin=here)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        here = sys.modules[spec.name] = importlib.import_module(str(spec.origin))
        for name, target in RESULTS.get(spec.name.rpartition(".")[2], {}).items():
            home, _, now = target.partition(":")
            setattr(here, name, getattr(importlib.import_module(home), now))


sys.meta_path.append(_Moved())
