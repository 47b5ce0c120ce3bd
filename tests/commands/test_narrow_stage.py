"""facekd narrow: a run folder that distilling begins at, or a sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net

from facekd.commands.distill import distill
from facekd.commands.narrow import narrow
from facekd.core.run import read_metrics
from facekd.errors import UserError
from facekd.nets.saved import load_model


@pytest.mark.slow
def test_distilling_begins_close_to_the_teacher(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = save_run(tmp_path / "teacher", "mobilefacenet")
    said = narrow(teacher, data=[store], net="mobilefacenet-half", held_out=0.34, out=tmp_path / "narrow")
    assert "warning: 24 crops are few to fit 16 dimensions on" in capsys.readouterr().err
    assert load_model(said.out).contract.model_id == said.model_id
    assert load_model(said.out).contract.dim == load_model(teacher).contract.dim
    flags = {"data": [store], "teacher": teacher, "net": "mobilefacenet-half", "dim": 16, "term": ["cosine=1"]}
    flags |= {"held_out": 0.34, "batch": 8, "epochs": 0.4, "quiet": True}
    begun = distill(out=tmp_path / "begun", init_from=said.out, **flags).out
    afresh = distill(out=tmp_path / "afresh", **flags).out
    first, other = (read_metrics(run)[0]["held_out_cosine"] for run in (begun, afresh))
    assert first > other + 0.2


def test_what_can_not_be_narrowed_is_refused(tmp_path: Path, store: Path) -> None:
    file, bgr = (
        onnx_of(tiny_net(), tmp_path / "net.onnx"),
        contract_file(tmp_path / "c.yaml", dim=8, size=SIZE, channels="BGR"),
    )
    with pytest.raises(UserError, match="takes crops of channels BGR, a student here of RGB"):
        narrow(file, data=[store], contract=bgr, held_out=0.34, out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="--net iresnet18: is no MobileFaceNet"):
        narrow(
            save_run(tmp_path / "teacher"),
            data=[store],
            net="iresnet18",
            held_out=0.34,
            out=tmp_path / "run",
            quiet=True,
        )
    with pytest.raises(UserError, match=r"its layer 1 is .* of 32 channels, the student's is .* of 64; choose"):
        narrow(tmp_path / "teacher", data=[store], held_out=0.34, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
