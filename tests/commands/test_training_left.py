"""What a training leaves: events, the best network, time, plots and a card, whenever it was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import SETTINGS, record

from facekd.commands.distill import distill
from facekd.commands.export import export
from facekd.commands.train_teacher import train_teacher
from facekd.core.contract import Contract
from facekd.core.files import read_json
from facekd.core.process import left_as_it_was
from facekd.core.run import read_metrics
from facekd.crops.store import CropStore
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.cost import num_parameters
from facekd.nets.saved import MODEL, load_model
from facekd.recipes import artifacts as training_left
from facekd.recipes import train as training_walk
from facekd.recipes.artifacts import BEST, CARD, best_row, score
from facekd.recipes.card import Subject
from facekd.recipes.plan import batch_loader, begin, make_plan, make_sampler
from facekd.settings.training import Optimization
from facekd.training.checkpoint import LAST
from facekd.training.loop import Batch

NET, STEPS, NOISE = "iresnet18-quarter", 9, 35


class Cut(BaseException):
    """A run that ends here and now."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def wandering(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store and a whole run on it whose best network comes after the first steps and before the last.

    6 people of 6 crops, of whom 4 train and 2 are held out; so noisy that more training need not be better. Whether the
    best goes again is decided by the last bits, which differ between processors, so the noise is drawn until it does.
    """
    for seed in range(21, 41):
        folder = tmp_path_factory.mktemp("data")
        run = train(folder / "whole", noisy_store(folder / "crops", seed))
        judged = judged_of(run)
        bests = bests_of(judged)
        if bests[0] not in (bests[-1], None) and bests[-1] is not judged[-1]:
            return folder / "crops", run
    raise AssertionError("in no noise of twenty does the best network come and go")


def noisy_store(folder: Path, seed: int) -> Path:
    store = CropStore.create(folder, SETTINGS)
    rng = np.random.default_rng(seed)
    for number in range(6):
        pattern = rng.integers(100, 156, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        shots = (np.clip(pattern + rng.normal(0, NOISE, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(6))
        store.append([record(f"p0{number}", f"p0{number}/{i}.png", shot) for i, shot in enumerate(shots)])
    return folder


def judged_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run at which held-out people were judged."""
    return [row for row in read_metrics(run) if "held_out_eer" in row]


def bests_of(judged: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The best row after each judgment but the first."""
    return [best_row(judged[: place + 1]) for place in range(1, len(judged))]


@pytest.fixture(scope="module")
def store(wandering: tuple[Path, Path]) -> Path:
    return wandering[0]


@pytest.fixture(scope="module")
def whole(wandering: tuple[Path, Path]) -> Path:
    """A run that nothing disturbed."""
    return wandering[1]


def train(out: Path, store: Path, cut: int = 0, signalled: int = 0, checkpoints: Collection[int] = ()) -> Path:
    """A classifier of the store's people, as the recipes train it, judged after each other step.

    Args:
        cut: the step that is never taken.
        signalled: this signal comes in its place.
        checkpoints: written after these steps and the last.
    """
    data = read_training_crops([store], 0.34, 0)
    config = {"data": [store], "net": NET, "epochs": 3.0, "batch": 8, "lr": 0.05, "ema": 0.0, "seed": 0}
    with left_as_it_was():  # a command
        begin(out, "train-teacher", config, (store,))
    plan = make_plan(len(data.train), Optimization(epochs=3.0, batch=8, lr=0.05, weight_decay=5e-4))
    spec = Contract(dim=8, size=32)
    torch.manual_seed(0)
    net, head = build(NET, dim=8, size=32), torch.nn.Linear(8, len(data.names))
    real = training_walk.progress

    def loss(batch: Batch) -> Mapping[str, torch.Tensor]:
        return {"labels": torch.nn.functional.cross_entropy(head(net(batch.images_BCHW)), batch.labels_B)}

    def evaluate(judged: torch.nn.Module) -> Mapping[str, float]:
        vectors = training_walk.embed_crops(judged, data.judged, spec)
        return training_walk.held_out_rates(vectors, data.judged.identities)

    def disturbed(rows: Iterator[dict[str, float]], *rest: Any, **more: Any) -> Iterator[dict[str, float]]:
        for row in real(rows, *rest, **more):
            if row["step"] == cut and not signalled:
                raise Cut
            if row["step"] == cut:
                os.kill(os.getpid(), signalled)
            training_walk.CHECKPOINT_SECONDS = -1.0 if row["step"] in checkpoints else 1e9
            yield row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_walk, "LOG_EVERY", 1)
        patch.setattr(training_walk, "FEWEST_STEPS", 2)
        patch.setattr(training_walk, "CHECKPOINT_SECONDS", 1e9)
        patch.setattr(training_walk, "progress", disturbed)
        modules = {"net": net, "head": head}
        load = batch_loader(
            data, spec, make_sampler(Optimization(sampler="shuffled", batch=8, per_person=2), data, 0), 0
        )
        subject = Subject(NET, spec, data)
        about = {"data": data.train.digest()}
        kept = training_walk.train(
            out, modules, loss, load, plan, about, evaluate, subject=subject, label="toy", quiet=True
        )
    training_walk.save_trained(out, NET, kept, spec)
    return out


def left(out: Path) -> dict[str, bytes]:
    """What must not depend on how often a run was stopped."""
    names = (MODEL, str(BEST), str(LAST), "metrics.jsonl", *(f"plots/{name}.svg" for name in PLOTS))
    return {name: (out / name).read_bytes() for name in names}


PLOTS = ("loss", "learning_rate", "held_out")


def judge(network: Path, store: Path) -> Mapping[str, float]:
    saved, data = load_model(network), read_training_crops([store], 0.34, 0)
    vectors = training_walk.embed_crops(saved.net, data.judged, saved.contract)
    return training_walk.held_out_rates(vectors, data.judged.identities)


def test_the_best_is_the_one_that_tells_most_people_apart() -> None:
    one = {"step": 50, "held_out_tar@0.01": 0.9, "held_out_eer": 0.02}
    better = {**one, "step": 60, "held_out_tar@0.01": 0.91, "held_out_eer": 0.03}
    finer = {**better, "step": 70, "held_out_eer": 0.01}
    assert best_row([one, better]) is better
    assert best_row([finer, one, better]) is finer
    assert best_row([finer, later := {**finer, "step": 80}, better]) is later
    assert best_row([{**finer, "step": 0}, one]) is one  # nobody keeps what was not trained
    few = [{"step": 9, "held_out_eer": 0.3, "held_out_cosine": 0.1}, {"step": 10, "held_out_eer": 0.4}]
    assert best_row(few) is few[0]
    assert score({"step": 9, "held_out_cosine": 0.25}) == (0.25,)
    assert best_row([{"step": 10, "loss": 1.0}]) is None
    assert best_row([]) is None


def test_the_best_network_is_a_model_that_does_as_well_as_its_row_says(whole: Path, store: Path) -> None:
    rows = read_metrics(whole)
    row = best_row(rows)
    assert row is not None
    judged = judged_of(whole)
    assert [row["step"] for row in judged] == [0, 2, 4, 6, 8, 9]
    bests = bests_of(judged)
    assert bests[0] not in (bests[-1], None)  # the best came later
    assert bests[-1] is not judged[-1]  # and went again
    assert judge(whole / BEST, store) == {key: value for key, value in row.items() if key.startswith("held_out")}
    assert judge(whole, store) == {key: value for key, value in rows[-1].items() if key.startswith("held_out")}
    assert sorted(path.name for path in (whole / BEST.parent).iterdir()) == ["best.safetensors", "last.safetensors"]


def test_the_last_network_is_the_best_byte_for_byte_where_it_is(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_left, "score", lambda row: (row["step"],) if "held_out_eer" in row else None)
    out = train(tmp_path, store)
    assert (out / BEST).read_bytes() == (out / MODEL).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("cut", "checkpoints"), [(5, (3,)), (9, (3, 4)), (2, ()), (3, (1, 2))])
def test_a_run_cut_anywhere_leaves_the_same_in_the_end(
    tmp_path: Path, store: Path, whole: Path, cut: int, checkpoints: Collection[int]
) -> None:
    with pytest.raises(Cut):
        train(tmp_path, store, cut=cut, checkpoints=checkpoints)
    last = max(checkpoints, default=0)
    row = best_row([row for row in read_metrics(tmp_path) if row["step"] <= last])
    assert (tmp_path / BEST).exists() == (row is not None)
    if row is not None:  # never one of a step that has to be done again
        assert judge(tmp_path / BEST, store)["held_out_eer"] == row["held_out_eer"]
    with pytest.raises(Cut):
        train(tmp_path, store, cut=last + 1)
    kept = {LAST.name} if last else set()
    assert {path.name for path in (tmp_path / BEST.parent).glob("*")} - {BEST.name} == kept
    if row is not None:
        assert judge(tmp_path / BEST, store)["held_out_eer"] == row["held_out_eer"]
    train(tmp_path, store, checkpoints=checkpoints)
    assert left(tmp_path) == left(whole)
    pieces = read_json(tmp_path / "time.json")
    assert [piece["from"] for piece in pieces] == [0, *checkpoints]
    assert [piece["to"] for piece in pieces] == [*checkpoints, STEPS]
    assert sorted(path.name for path in (tmp_path / BEST.parent).iterdir()) == ["best.safetensors", "last.safetensors"]
    assert scalars(tmp_path) == scalars(whole)


KILLED = """
import sys, torch
from pathlib import Path
from test_training_left import train
torch.set_num_threads(1)
train(Path(sys.argv[1]), Path(sys.argv[2]), cut=7, signalled=9, checkpoints=(3,))
"""


@pytest.mark.slow
def test_a_kill_is_such_a_cut(tmp_path: Path, store: Path, whole: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, store], env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / CARD).exists()
    assert read_metrics(tmp_path)[-1]["step"] == 6
    train(tmp_path, store)
    assert left(tmp_path) == left(whole)
    assert scalars(tmp_path) == scalars(whole)


@pytest.mark.parametrize("name", ["checkpoints", "plots", "tensorboard"])
def test_a_link_or_a_file_in_place_of_a_runs_own_folder_is_refused(tmp_path: Path, store: Path, name: str) -> None:
    """Through a link another run's best network, plots and events were removed and written over."""
    other, run = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    for file in ("best.safetensors", "loss.svg", "events.out.tfevents.1"):
        (other / file).write_text("precious")
    run.mkdir()
    (run / name).symlink_to(other)
    with pytest.raises(UserError, match=rf"{name}: is no folder of the run's own; remove it"):
        train(run, store)
    assert {path.read_text() for path in other.iterdir()} == {"precious"}
    assert len(list(other.iterdir())) == 3
    (run / name).unlink()
    (run / name).write_text("a file")
    with pytest.raises(UserError, match=rf"{name}: is no folder of the run's own; remove it"):
        train(run, store)


@pytest.mark.parametrize("text", ["null", "3", '"to"', '{"to": 3}', "[[1]]", '[{"to": "x"}]', "[", ""])
def test_damaged_times_are_said_before_the_first_step(tmp_path: Path, store: Path, text: str) -> None:
    (tmp_path / "time.json").write_text(text)
    with pytest.raises(UserError, match=r"time\.json: .*; delete it: .* the run goes on"):
        train(tmp_path, store)
    assert not read_metrics(tmp_path)


@pytest.mark.slow
def test_a_damaged_best_network_is_said_before_the_next_step(tmp_path: Path, store: Path, whole: Path) -> None:
    cut = next(row["step"] for row in judged_of(whole) if row["step"] > 0) + 1
    with pytest.raises(Cut):
        train(tmp_path, store, cut=cut, checkpoints=(cut - 1,))
    good = (tmp_path / BEST).read_bytes()
    for damaged in (b"", good[: len(good) // 2], good[: len(good) // 2] + bytes(len(good) - len(good) // 2)):
        (tmp_path / BEST).write_bytes(damaged)
        with pytest.raises(UserError, match=r"best\.safetensors: .*; without that file the run goes on"):
            train(tmp_path, store)
    (tmp_path / BEST).write_bytes(good)
    train(tmp_path, store, checkpoints=(cut - 1,))
    assert left(tmp_path) == left(whole)


@pytest.mark.parametrize("name", [str(BEST), "checkpoints/best-1.safetensors"])
def test_a_folder_in_place_of_the_best_network_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"best\.safetensors: can't be replaced"):
        training_left.settle_best(tmp_path, 0)


def test_what_a_training_leaves_is_for_its_owner_alone(whole: Path) -> None:
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: "0o600" for path in files}


def test_a_run_killed_between_its_last_checkpoint_and_its_model_leaves_the_rest(
    tmp_path: Path, store: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(training_walk, "settle_best", lambda out, step: gone() if step == STEPS else None)
        with pytest.raises(Cut):
            train(tmp_path, store)
    assert not (tmp_path / BEST).exists()
    train(tmp_path, store)
    assert left(tmp_path) == left(whole)
    assert f"after {STEPS} of {STEPS} steps" in (tmp_path / CARD).read_text()


def test_a_sigterm_leaves_plots_and_a_card_that_says_it_is_not_done(tmp_path: Path, store: Path, whole: Path) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path, store, cut=4, signalled=signal.SIGTERM)
    card = (tmp_path / CARD).read_text()
    assert f"after 4 of {STEPS} steps" in card
    assert f"not finished, 'facekd train-teacher --resume {tmp_path}' goes on" in card
    assert "model.safetensors, model" not in card
    assert (tmp_path / "plots" / "held_out.svg").exists()
    train(tmp_path, store)
    assert left(tmp_path) == left(whole)
    assert "not finished" not in (tmp_path / CARD).read_text()


def test_the_card_says_what_the_network_is_and_what_it_rests_on(whole: Path) -> None:
    card = (whole / CARD).read_text()
    contract = load_model(whole).contract
    row = best_row(read_metrics(whole))
    assert row is not None
    for words in (
        f"# {NET}, trained by facekd train-teacher",
        f"{num_parameters(build(NET, dim=8, size=32)) / 1e6:.3f} M",
        f"model.safetensors, model {contract.model_id}: the weights of the last step",
        f"model {load_model(whole / BEST).contract.model_id}: the weights of step {row['step']}",
        "| crops | 24 |",
        "| identities held out | 2 |",
        "Not recorded: facekd reads crops, not their license.",
        "| --lr | 0.05 |",
        "| steps | 9 |",
        "12 crops of 2 people whom no training saw: 30 genuine and 36 impostor pairs",
        "show no FAR below 0.08 (rule of 3)",
        f"| after step 9 | {100 * read_metrics(whole)[-1]['held_out_eer']:.2f} % |",
        "let a person decide where a mistake does harm",
        f"facekd train-teacher --config {whole}/run.yaml --out ANOTHER",
        "| python |",
    ):
        assert words in card, words
    assert "p00" not in card  # nobody's name


def test_the_time_of_a_run_is_that_of_its_steps(whole: Path) -> None:
    (piece,) = read_json(whole / "time.json")
    assert (piece["from"], piece["to"], piece["processes"]) == (0, STEPS, 1)
    assert 0 < piece["seconds"] < 600
    said = f"| {piece['device']}, 1 process | 9 | {piece['seconds']:.1f} s | {8 * 9 / piece['seconds']:.4g} |"
    assert said in (whole / CARD).read_text()


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run, by tag."""
    pytest.importorskip("tensorboard", reason="needs pip install 'facekd[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_metrics(whole: Path) -> None:
    shown = scalars(whole)
    assert set(shown) == {"train/lr", "train/loss", "train/labels", "held_out/eer"}
    rows = read_metrics(whole)
    for tag, key in (("train/loss", "loss"), ("held_out/eer", "held_out_eer")):
        wanted = [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in rows if key in row]
        assert shown[tag] == wanted


def test_without_tensorboard_a_run_says_so_and_one_that_goes_on_with_it_shows_all(
    tmp_path: Path, store: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training_left, "find_spec", lambda name: None)
        with training_left.recording(tmp_path, False) as record:
            record({"step": 0, "held_out_eer": 0.5})
        assert "pip install 'facekd[tensorboard]'" in capsys.readouterr().err
        assert read_metrics(tmp_path) == [{"step": 0, "held_out_eer": 0.5}]
        assert not (tmp_path / "tensorboard").exists()
        with pytest.raises(Cut):
            train(tmp_path / "run", store, cut=6, checkpoints=(4,))
    train(tmp_path / "run", store)
    assert scalars(tmp_path / "run") == scalars(whole)


@pytest.mark.slow
def test_both_recipes_leave_it_all(tmp_path: Path, store: Path) -> None:
    small: dict[str, Any] = {"data": [store], "dim": 8, "epochs": 0.7, "batch": 8, "held_out": 0.34, "quiet": True}
    teacher = train_teacher(out=tmp_path / "teacher", net=NET, **small).out
    student = distill(
        out=tmp_path / "student", net="mobilefacenet-half", activation="relu", teacher=teacher, **small
    ).out
    for out in (teacher, student):
        assert (out / BEST).read_bytes() == (out / MODEL).read_bytes()  # of two steps the second is judged
        assert {path.stem for path in (out / "plots").iterdir()} == set(PLOTS)
        assert scalars(out)["train/loss"]
    card = (student / CARD).read_text()
    assert f"| taught by | {teacher} | model {load_model(teacher).contract.model_id} |" in card
    assert "| --term | labels=1, logits=1, embedding=10 |" in card
    assert "mean cosine to the teacher" in card
    export(student / BEST, tmp_path / "best.onnx", quiet=True)
    assert CropEmbedder.load(tmp_path / "best.onnx").contract.model_id == load_model(student).contract.model_id
