"""The search: one rule of choice, trials that fail or end early, and searches that are resumed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from tests.tuning.searched import ENDLESS, GRID, WIDTH, Curve, Curves, search, worth
from unblur.errors import ArtifactError, DataError, SpecError, UnblurError
from unblur.progress import ProgressEvent
from unblur.spec import Choice, Dimension, Range, spec
from unblur.tuning import store as stores
from unblur.tuning.engine import Judgement, Watch
from unblur.tuning.points import set_point
from unblur.tuning.results import Study
from unblur.tuning.settings import Database, Search

ROOT = Path(__file__).resolve().parents[2]


def results(study: Study[Any]) -> list[tuple[Any, ...]]:
    """Everything about the trials but the seconds."""
    return [
        (trial.number, dict(trial.point), trial.value, trial.epoch, dict(trial.validations), trial.pruned)
        for trial in study.trials
    ]


# --------------------------------------------------------------------------------------------- the choice


def test_the_best_is_chosen_and_the_next_best_are_listed() -> None:
    study = search(Curve(), GRID, Curves(), Search(trials=99), seed=1)
    assert study.spec == Curve(width=3, dims=(4, 2))
    values = [trial.value for trial in study.ranked]
    assert values == sorted((value for value in values if value is not None), reverse=True)
    assert study.best.value == worth(study.spec)
    table = study.to_frame()
    assert table["recall@5"].is_sorted(descending=True, nulls_last=True)
    assert table.row(0, named=True)["chosen"]
    assert table["chosen"].sum() == 1
    assert table.schema["recall@5"] == pl.Float64
    assert any(f"next best {study.ranked[1].value:.4f}" in note for note in study.notes())


def test_of_equals_the_earlier_trial_is_chosen() -> None:
    class Even(Curves):
        def __call__(self, setting: Curve, training: int, watch: Watch) -> Judgement:
            return Judgement(0.5)

    study = search(Curve(), ENDLESS, Even(), Search(trials=9))
    assert study.chosen == 0
    assert [trial.number for trial in study.ranked] == list(range(9))


def test_a_setting_that_fails_is_kept() -> None:
    def fail(setting: Curve) -> None:
        problems: dict[int, Exception] = {
            1: DataError("too few rows"),
            2: np.linalg.LinAlgError("singular"),
            4: RuntimeError("CUDA out of memory"),
        }
        if setting.width in problems:
            raise problems[setting.width]

    study = search(Curve(), (WIDTH,), Curves(before=fail), Search(trials=9))
    assert {trial.point["width"]: trial.problem for trial in study.trials if trial.problem} == {
        1: "too few rows",
        2: "singular",
        4: "CUDA out of memory",
        13: "width must not be 13; saw 13. Take another.",
    }
    assert "4 of the settings could not be fitted" in study.notes()
    assert study.to_frame().row(-1, named=True)["problem"]
    with pytest.raises(SpecError, match=r"Reasons: width must not be 13"):
        _ = search(
            Curve(), (replace(WIDTH, values=Choice((13,))),), Curves(), Search(trials=9), include_base=False
        ).spec


def test_a_training_that_diverges_fails_its_setting() -> None:
    class Diverged(UnblurError, ArithmeticError):
        pass

    def diverge(setting: Curve) -> None:
        if setting.width == 3:
            raise Diverged("the loss is no number")

    study = search(Curve(), (WIDTH,), Curves(before=diverge), Search(trials=9))
    assert [trial.problem for trial in study.trials if trial.point["width"] == 3] == ["the loss is no number"]


@pytest.mark.parametrize(
    "problem", [ZeroDivisionError("a bug"), RuntimeError("the disk is gone"), ValueError("a")]
)
def test_any_other_error_ends_the_search(problem: Exception, tmp_path: Path) -> None:
    """It is raised unchanged, and the same call resumes the search after it."""

    def fail(setting: Curve) -> None:
        if setting.width == 3:
            raise problem

    for _ in range(2):
        with pytest.raises(type(problem), match=str(problem)):
            search(Curve(), GRID, Curves(before=fail), Search(trials=9), store=tmp_path / "trials")
    uninterrupted = search(Curve(), GRID, Curves(), Search(trials=9))
    assert results(search(Curve(), GRID, Curves(), Search(trials=9), store=tmp_path / "trials")) == results(
        uninterrupted
    )


def test_searches_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one hyper-parameter"):
        search(Curve(), (), Curves())
    with pytest.raises(SpecError, match="sampler of Search"):
        Search(sampler="randm")  # type: ignore[arg-type]
    for wrong in ({"trials": 0}, {"seconds": 0.0}, {"trainings": 0}, {"patience": 0}, {"users": 1}):
        with pytest.raises(SpecError):
            Search(**wrong)  # type: ignore[arg-type]


def test_progress_tells_of_trials() -> None:
    events: list[ProgressEvent] = []
    search(Curve(), GRID, Curves(), Search(trials=3), progress=events.append)
    assert [event.done for event in events] == [0, 1, 2, 3]
    assert {(event.total, event.kind) for event in events} == {(3, "trial")}
    assert events[-1].values.keys() == {"best recall@5"}


# ------------------------------------------------------------------------------------- how long it takes


def test_it_ends_when_nothing_gets_better() -> None:
    study = search(Curve(width=3, rate=0.01), ENDLESS, Curves(), Search(trials=50, patience=4))
    assert "4 trials in a row were no better" in study.notes()[-1]
    assert len(study.trials) == study.chosen + 5


class Clock:
    """A clock that advances by the given time at each fit."""

    def __init__(self, patch: pytest.MonkeyPatch, *fits: float) -> None:
        self.now, self.fits = 0.0, iter(fits)
        patch.setattr("unblur.tuning.engine.time", self)

    def perf_counter(self) -> float:
        return self.now

    def pass_by(self, setting: Curve) -> None:
        self.now += next(self.fits)


def test_it_ends_when_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = Clock(monkeypatch, 2, 2, 2, 2)
    study = search(
        Curve(), ENDLESS, Curves(before=clock.pass_by), Search(trials=50, seconds=5.0), store=tmp_path
    )
    assert [trial.seconds for trial in study.trials] == [2, 2, 2]
    assert study.notes()[-1] == "the search ended when its trials had taken 5 seconds"
    resumed = search(
        Curve(), ENDLESS, Curves(before=clock.pass_by), Search(trials=50, seconds=7.0), store=tmp_path
    )
    assert len(resumed.trials) == 4


def test_with_a_pruner_the_trial_under_way_is_ended_when_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for fits, seconds, ended in (((9,), 5.0, [False]), ((2, 2, 9), 5.0, [False, False, True])):
        clock = Clock(monkeypatch, *fits)
        options = Search(trials=9, pruner="median", seconds=seconds)
        study = search(Curve(), ENDLESS, Curves(epochs=3, before=clock.pass_by), options)
        assert [trial.pruned for trial in study.trials] == ended  # there must be one to choose


# ---------------------------------------------------------------------------------- trainings and pruners


def test_a_trial_is_the_mean_of_its_trainings() -> None:
    judge = Curves()
    study = search(Curve(), (WIDTH,), judge, Search(trials=2, trainings=3))
    assert len(judge.fitted) == 6
    assert study.trials[0].value == pytest.approx(worth(Curve()) + 0.001)
    assert list(study.trials[0].validations) == ["1", "2", "3"]


@pytest.mark.parametrize("pruner", ["median", "halving"])
@pytest.mark.parametrize("trainings", [1, 4])
def test_a_pruner_saves_work_and_finds_the_same(pruner: Any, trainings: int) -> None:
    """A trial that is not ended has the value it has without a pruner; one that is ended has none and cannot be chosen."""
    unpruned_judge, pruned_judge = Curves(epochs=12), Curves(epochs=12)
    options = Search(trials=16, trainings=trainings)
    unpruned = search(Curve(), ENDLESS, unpruned_judge, options)
    pruned = search(Curve(), ENDLESS, pruned_judge, replace(options, pruner=pruner))
    assert pruned.spec == unpruned.spec
    ended = [trial for trial in pruned.trials if trial.pruned]
    assert ended
    assert len(pruned_judge.fitted) < len(unpruned_judge.fitted) or trainings == 1
    for ours, theirs in zip(pruned.trials, unpruned.trials, strict=True):
        assert list(theirs.validations.items())[: len(ours.validations)] == list(ours.validations.items())
        assert ours.value == (None if ours.pruned else theirs.value)
        assert not ours.pruned or (len(ours.validations) < len(theirs.validations) and not ours.problem)
    assert pruned.to_frame()["pruned"].sum() == len(ended)
    assert any("ended early" in note for note in pruned.notes())


def scripted(*rows: list[float], pruner: Any) -> list[int | None]:
    """The number of evaluations after which each trial is ended, `None` if it is not; trial n has the values of row n."""

    class Script(Curves):
        def __call__(self, setting: Curve, training: int, watch: Watch) -> Judgement:
            row = rows[setting.width]
            for epoch, value in enumerate(row, start=1):
                if watch(10 * epoch, value):
                    return Judgement(None, epoch)
            return Judgement(row[-1])

    space = (Dimension("width", Choice(tuple(range(len(rows)))), ("width",)),)
    study = search(
        Curve(), space, Script(), Search(trials=99, sampler="exhaustive", pruner=pruner), include_base=False
    )
    return [len(trial.validations) if trial.pruned else None for trial in study.trials]


def test_the_median_pruner_compares_with_the_running_best_of_others() -> None:
    """Against the median worked out by hand: ended if the best so far is below it, after the third evaluation."""
    earlier = [[0.1, 0.2, 0.3 + n / 10] for n in range(4)]  # after three: .3 .4 .5 .6
    assert scripted(*earlier, [0.1, 0.2, 0.44], pruner="median")[-1] == 3
    assert scripted(*earlier, [0.1, 0.2, 0.46], pruner="median")[-1] is None
    assert scripted(*earlier[:3], [0.0, 0.0, 0.0, 0.0], pruner="median")[-1] is None  # too few to say
    assert scripted(*earlier, [0.0, 0.0], pruner="median")[-1] is None  # too early to say


def test_halving_lets_a_third_through() -> None:
    """At the fourth evaluation a trial must be among the best third of those that came so far."""
    earlier = [[0.1, 0.1, 0.1, worth] for worth in (0.2, 0.3, 0.4, 0.5)]
    assert scripted(*earlier, [0.0, 0.0, 0.0, 0.45], pruner="halving") == [None, None, None, None, 4]
    assert scripted(*earlier, [0.0, 0.0, 0.0, 0.55], pruner="halving")[-1] is None
    assert scripted(*earlier, [0.0, 0.0, 0.0, 0.0], pruner="none")[-1] is None


# ------------------------------------------------------------------------------------------------- resuming


@settings(deadline=None, max_examples=12)
@given(
    sampler=st.sampled_from(["random", "exhaustive", "bayes"]),
    pruner=st.sampled_from(["none", "median", "halving"]),
    interrupted_at=st.lists(st.integers(1, 13), max_size=3),
)
def test_a_resumed_search_equals_an_uninterrupted_one(
    sampler: Any, pruner: Any, interrupted_at: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Interrupted within some trials, it ends with the same points, values and choice."""
    space = GRID if sampler == "exhaustive" else ENDLESS
    options = Search(trials=11, sampler=sampler, pruner=pruner)
    folder = tmp_path_factory.mktemp("searches") / "trials"
    uninterrupted = search(Curve(), space, Curves(epochs=12), options, seed=5)
    for most in interrupted_at:
        judge = Curves(epochs=12)

        def interrupt(setting: Curve, judge: Curves = judge, most: int = most) -> None:
            if len(judge.fitted) + 1 == most:
                raise KeyboardInterrupt

        judge.before = interrupt
        try:
            search(Curve(), space, judge, options, seed=5, store=folder)
        except KeyboardInterrupt:
            continue
    resumed = search(Curve(), space, Curves(epochs=12), options, seed=5, store=folder)
    assert results(resumed) == results(uninterrupted)
    idle_judge = Curves(epochs=12)
    assert search(Curve(), space, idle_judge, options, seed=5, store=folder).trials == resumed.trials
    assert idle_judge.fitted == []


def test_more_trials_add_to_the_earlier_ones(tmp_path: Path) -> None:
    for trials in (3, 8, 5):
        study = search(Curve(), ENDLESS, Curves(), Search(trials=trials, sampler="bayes"), store=tmp_path)
        assert len(study.trials) == trials
    assert results(study) == results(search(Curve(), ENDLESS, Curves(), Search(trials=5, sampler="bayes")))


PROGRAM = """
import sys, time
from pathlib import Path
from tests.tuning.searched import ENDLESS, Curve, Curves, search
from unblur.tuning.settings import Database, Search
judge = Curves(epochs=12, before=lambda setting: print(len(judge.fitted), flush=True) or time.sleep(0.05))
search(Curve(), ENDLESS, judge, Search(trials=12, sampler="bayes", pruner="halving"), store=Path(sys.argv[1]))
"""


@pytest.mark.timeout(120)
def test_killed_at_any_moment_it_is_resumed(tmp_path: Path) -> None:
    """A process that is killed without warning leaves whole trials, and the next call runs the rest."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "trials")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "5":
            pass
        process.kill()
    judge = Curves(epochs=12)
    options = Search(trials=12, sampler="bayes", pruner="halving")
    resumed = search(Curve(), ENDLESS, judge, options, store=tmp_path / "trials")
    assert len(judge.fitted) == 7
    assert results(resumed) == results(search(Curve(), ENDLESS, Curves(epochs=12), options))


def test_one_process_at_a_time_searches_in_a_folder(tmp_path: Path) -> None:
    def nested(setting: Curve) -> None:
        search(Curve(), GRID, Curves(), store=tmp_path)

    with pytest.raises(ArtifactError, match="one process at a time"):
        search(Curve(), GRID, Curves(before=nested), store=tmp_path)


def test_a_line_that_a_full_disk_cut_off_does_no_harm(tmp_path: Path) -> None:
    uninterrupted = search(Curve(), GRID, Curves(), Search(trials=5), store=tmp_path)
    log = tmp_path / "trials.log"
    log.write_bytes(log.read_bytes()[:-20])
    judge = Curves()
    assert results(search(Curve(), GRID, judge, Search(trials=5), store=tmp_path)) == results(uninterrupted)
    assert len(judge.fitted) == 1


def test_a_trial_that_was_changed_is_refused_and_those_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    before = results(search(Curve(), GRID, Curves(), Search(trials=3), store=tmp_path))
    log = tmp_path / "trials.log"
    lines = log.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        place = next(place for place in range(len(line) // 2, len(line)) if line[place : place + 1].isdigit())
        digit = b"1" if line[place : place + 1] != b"1" else b"2"
        changed = line[:place] + digit + line[place + 1 :]
        log.write_bytes(b"".join([*lines[:number], changed, *lines[number + 1 :]]))
        with pytest.raises(ArtifactError, match="undamaged"):
            search(Curve(), GRID, Curves(), Search(trials=3), store=tmp_path)
    entries = [json.loads(line) for line in lines]
    assert all(entry.pop(stores.SHA256) for entry in entries)
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    judge = Curves()
    assert results(search(Curve(), GRID, judge, Search(trials=3), store=tmp_path)) == before
    assert not judge.fitted


def test_a_line_of_thousands_of_levels_is_refused(tmp_path: Path) -> None:
    search(Curve(), GRID, Curves(), Search(trials=2), store=tmp_path)
    with (tmp_path / "trials.log").open("a") as log:
        log.write('{"op_code": 4, "x": ' + "[" * 5000 + "]" * 5000 + "}\n")
    with pytest.raises(ArtifactError, match="undamaged and writable"):
        search(Curve(), GRID, Curves(), Search(trials=2), store=tmp_path)


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_trials_of_more_than_nine_evaluations_are_read_again(tmp_path: Path, pruner: str) -> None:
    """Their numbers are keys, which JSON turns into text, and 10 sorts before 2."""
    settings = Search(trials=3, pruner=pruner)
    before = results(search(Curve(), GRID, Curves(epochs=12), settings, store=tmp_path))
    judge = Curves(epochs=12)
    assert results(search(Curve(), GRID, judge, settings, store=tmp_path)) == before
    assert not judge.fitted


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", {"seed": 1}),
        ("sampler", {"settings": Search(trials=2, sampler="exhaustive")}),
        ("pruner", {"settings": Search(trials=2, pruner="median")}),
        ("trainings", {"settings": Search(trials=2, trainings=2)}),
        (r"trial 0 \(the model as given\)", {"include_base": False}),
        ("space", {"space": GRID[:1]}),
        ("model", {"base": Curve(width=2)}),
        ("metric", {"judge": Curves(metric="ndcg@5")}),
        ("training data", {"judge": Curves(identity={"train": "b"})}),
    ],
)
def test_the_trials_of_another_search_are_refused(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    call = {
        "base": Curve(),
        "space": GRID,
        "judge": Curves(identity={"train": "a"}),
        "settings": Search(trials=2),
        "seed": 0,
    }
    search(**call, store=tmp_path / "trials")  # type: ignore[arg-type]
    arguments = {"judge": Curves(identity={"train": "a"}), **change}
    with pytest.raises(ArtifactError, match=f"these differ: '{name}'"):
        search(**{**call, **arguments}, store=tmp_path / "trials")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::unblur.errors.OutdatedWarning")
def test_a_spec_of_an_earlier_version_is_read_as_one_of_today(tmp_path: Path) -> None:
    """A field that was renamed, one that did nothing and is gone, one that is new: the search is resumed."""

    @spec
    class Before(Curve):
        breadth: int = 4
        blur: float = 0.0

    @spec(renamed={"breadth": "depth"}, dropped={"blur": 0.0})
    class Today(Curve):
        depth: int = 4
        colour: str = "red"

    earlier = search(Before(), GRID, Curves(), Search(trials=3), store=tmp_path / "kept")
    judge = Curves()
    assert search(Today(), GRID, judge, Search(trials=3), store=tmp_path / "kept").trials == earlier.trials
    assert judge.fitted == []
    for other in (Today(depth=5), Today(colour="blue")):
        with pytest.raises(ArtifactError, match="these differ: 'model'"):
            search(other, GRID, judge, Search(trials=3), store=tmp_path / "kept")
    search(Before(blur=0.5), GRID, Curves(), Search(trials=3), store=tmp_path / "blurred")
    with pytest.raises(ArtifactError, match="these differ: 'model'"):
        search(Today(), GRID, judge, Search(trials=3), store=tmp_path / "blurred")


@pytest.mark.filterwarnings("ignore::unblur.errors.OutdatedWarning")
@pytest.mark.parametrize("sampler", ["random", "bayes"])
@pytest.mark.parametrize("database", [False, True])
def test_a_search_over_a_renamed_field_is_resumed(tmp_path: Path, sampler: Any, database: bool) -> None:
    """Only optuna's estimator over a database, which reads the trials itself, is refused."""

    @spec
    class Before(Curve):
        breadth: float = 0.0

    @spec(renamed={"breadth": "depth"})
    class Today(Curve):
        depth: float = 0.0

    def trials(base: Curve, name: str, most: int, judge: Curves, store: Any = None) -> list[Any]:
        space = (Dimension(name, Range(0.0, 1.0), (name,)), WIDTH)
        settings = Search(trials=most, sampler=sampler)
        study = search(base, space, judge, settings, store=store)
        return [(list(trial.point.items()), trial.value) for trial in study.trials]

    store = Database(f"sqlite:///{tmp_path / 'trials.db'}", "a") if database else tmp_path / "trials"
    trials(Before(), "breadth", 12, Curves(), store)
    judge = Curves()
    if database and sampler == "bayes":
        with pytest.raises(ArtifactError, match="these differ: 'space'"):
            trials(Today(), "depth", 14, judge, store)
        return
    resumed = trials(Today(), "depth", 14, judge, store)
    assert len(judge.fitted) == 2
    assert resumed == trials(Today(), "depth", 14, Curves())


def test_a_spec_without_chance_is_trained_once() -> None:
    @spec
    class Fixed(Curve):
        stochastic: ClassVar[bool] = False

    judge = Curves()
    search(Fixed(), (WIDTH,), judge, Search(trials=2, trainings=3))
    assert len(judge.fitted) == 2


def test_the_budget_of_a_search_may_change_on_resuming(tmp_path: Path) -> None:
    search(Curve(), GRID, Curves(), Search(trials=2, seconds=60.0), store=tmp_path)
    study = search(Curve(), GRID, Curves(), Search(trials=4, patience=3), store=tmp_path)
    assert len(study.trials) == 4


@pytest.mark.parametrize("name", ["study.json", "trial-00000.json"])
def test_the_folder_of_an_earlier_version_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ArtifactError, match="earlier version of unblur"):
        search(Curve(), GRID, Curves(), store=tmp_path)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ArtifactError, match="holds something else"):
        search(Curve(), GRID, Curves(), store=tmp_path)
    with pytest.raises(ArtifactError, match="must be a folder"):
        search(Curve(), GRID, Curves(), store=tmp_path / "thesis.txt")
    for name in ("file", "pipe"):
        (tmp_path / name).mkdir()
    mine = tmp_path / "file" / "trials.log"
    mine.write_text("of my own\nwithout an end")
    with pytest.raises(ArtifactError, match="must be undamaged"):
        search(Curve(), GRID, Curves(), store=tmp_path / "file")
    assert mine.read_text() == "of my own\nwithout an end"
    os.mkfifo(tmp_path / "pipe" / "trials.log")
    with pytest.raises(ArtifactError, match="holds something else"):
        search(Curve(), GRID, Curves(), store=tmp_path / "pipe")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "trials.log").write_text('{"op_code": 4}\n')
    with pytest.raises(ArtifactError, match="must be undamaged"):
        search(Curve(), GRID, Curves(), store=tmp_path / "broken")


# ------------------------------------------------------------------------------- settings judged together


def test_settings_that_share_their_work_are_judged_in_one_pass(tmp_path: Path) -> None:
    judge = Curves(shares=True)
    study = search(Curve(), GRID, judge, Search(trials=8), store=tmp_path)
    one_by_one = search(Curve(), GRID, Curves(), Search(trials=8))
    assert judge.passes == 1
    assert [trial.value for trial in study.trials] == [trial.value for trial in one_by_one.trials]
    assert [trial.problem for trial in study.trials] == [trial.problem for trial in one_by_one.trials]
    extended = search(Curve(), GRID, judge, Search(trials=11), store=tmp_path)
    assert judge.passes == 2
    assert extended.trials[:8] == study.trials


@pytest.mark.parametrize("options", [Search(sampler="bayes"), Search(patience=50), Search(seconds=60.0)])
def test_what_depends_on_results_or_time_is_judged_one_by_one(
    options: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.tuning.engine.LARGEST_BLOCK", 10)
    judge = Curves(shares=True)
    study = search(Curve(), GRID, judge, options)
    assert judge.passes == 0
    assert len(study.trials) > 9


def test_after_a_pass_that_fails_only_the_settings_at_fault_fail() -> None:
    def refuse_width_2(setting: Curve) -> None:
        if setting.width == 2:
            raise SpecError("no width may be 2")

    judge = Curves(shares=True, before=refuse_width_2)
    trials = search(Curve(), GRID, judge, Search(trials=9)).trials
    assert judge.passes == 1
    assert {trial.problem for trial in trials if trial.point["width"] == 2} == {"no width may be 2"}
    assert all(trial.value for trial in trials if trial.point["width"] not in (2, 13))


def test_trials_of_a_pass_are_kept_all_or_none(tmp_path: Path) -> None:
    """If writing them is interrupted, the next call reads all of them, without another pass."""
    uninterrupted = search(Curve(), GRID, Curves(shares=True), Search(trials=8), store=tmp_path)
    log = tmp_path / "trials.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-3]))
    judge = Curves(shares=True)
    assert search(Curve(), GRID, judge, Search(trials=8), store=tmp_path).trials == uninterrupted.trials
    assert judge.passes == 0


def test_the_chosen_spec_is_that_of_its_point() -> None:
    study = search(Curve(), GRID, Curves(), Search(trials=4))
    assert study.spec == set_point(Curve(), GRID, study.best.point)
