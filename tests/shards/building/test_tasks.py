"""A build by array tasks, and their merge."""

import threading

import pytest
from small_builds import SMALL, add_recordings, build_here, contents

from shards import DataError, Manifest
from shards.building import build as build_module
from shards.building import merge as merge_module
from shards.building import running
from shards.building.build import build
from shards.building.merge import merge
from shards.files.lease import Lease


@pytest.fixture(autouse=True)
def here(monkeypatch):
    build_here(monkeypatch)
    monkeypatch.setattr("shards.building.plan.PART_CHUNKS", 40)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks") / "audio"
    add_recordings(folder, range(14))
    return folder


@pytest.fixture
def whole(audio, tmp_path):
    build(audio, tmp_path / "whole", **SMALL)
    return contents(tmp_path / "whole")


@pytest.mark.parametrize("order", [["1/3", "2/3", "3/3"], ["3/3", "1/3", "2/3"]])
def test_the_last_task_merges_to_the_same_bytes(audio, whole, tmp_path, order, capsys):
    out = tmp_path / "out"
    for task in order[:-1]:
        build(audio, out, **SMALL, task=task)
        assert not (out / "dataset.json").exists()
        assert f"task {task} is done; " in capsys.readouterr().out
    build(audio, out, **SMALL, task=order[-1])
    assert contents(out) == whole
    merge(out)
    assert "nothing to merge" in capsys.readouterr().out
    build(audio, out, **SMALL, task=order[0])  # a task that starts when all is done
    assert contents(out) == whole


def test_more_tasks_than_parts(audio, whole, tmp_path):
    for number in (9, *range(1, 9)):
        build(audio, tmp_path / "out", **SMALL, task=f"{number}/9")
    assert contents(tmp_path / "out") == whole


def test_merging_too_early_says_what_to_run(audio, whole, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"holds no build to merge\. Run first: python -m shards build"):
        merge(out)
    build(audio, out, **SMALL, task="2/3")
    with pytest.raises(DataError) as raised:
        merge(out)
    told = str(raised.value)
    assert "parts of" in told
    assert "are missing (tasks 1/3, 3/3)" in told
    assert f"Run: python -m shards build {audio} {out} --task 1/3 and so on, or all of them without --task" in told
    assert "\n" not in told
    build(audio, out, **SMALL)  # does the rest
    assert contents(out) == whole


def test_an_explicit_merge_after_the_last_task_was_killed(audio, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    build(audio, out, **SMALL, task="1/2")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "merge_plan", lambda *_: "busy")
        build(audio, out, **SMALL, task="2/2")
    assert "another task merges them" in capsys.readouterr().out
    with Lease.take(out / ".build" / "merge.lease"), pytest.raises(DataError, match="another process merges"):
        merge(out)
    merge(out)
    assert contents(out) == whole


def test_a_lost_shard_is_built_again(audio, whole, tmp_path):
    out = tmp_path / "out"
    build(audio, out, **SMALL, task="1/2")
    next((out / ".build" / "shards").iterdir()).unlink()
    build(audio, out, **SMALL, task="2/2")
    with pytest.raises(DataError, match=r"1 of \d+ parts .* \(tasks 1/2\)"):
        merge(out)
    build(audio, out, **SMALL, task="1/2")
    assert contents(out) == whole


def test_the_plan_is_made_once(audio, whole, tmp_path, monkeypatch):
    made = []
    original = build_module.make_plan
    monkeypatch.setattr(build_module, "make_plan", lambda *arguments: made.append(1) or original(*arguments))
    for task in ("1/2", "2/2"):
        build(audio, tmp_path / "out", **SMALL, task=task)
    assert len(made) == 1
    assert contents(tmp_path / "out") == whole


def test_tasks_that_start_together_wait_for_one_plan(audio, whole, tmp_path, monkeypatch, capsys):
    out, waited = tmp_path / "out", threading.Event()
    made, errors = [], []
    original = build_module.make_plan

    def slowly(*arguments):
        made.append(1)
        assert waited.wait(120), "no other task waited"
        return original(*arguments)

    monkeypatch.setattr(build_module, "make_plan", slowly)
    monkeypatch.setattr(build_module.time, "sleep", lambda seconds: waited.set() or threading.Event().wait(0.01))

    def work(task):
        try:
            build(audio, out, **SMALL, task=task)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"{i}/3",)) for i in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(made) == 1
    if not (out / "dataset.json").exists():  # two may have met at the merge
        merge(out)
    assert contents(out) == whole
    assert "waiting while another task looks at the files" in capsys.readouterr().err


def test_waiting_for_a_plan_has_an_end(audio, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "PLAN_LIMIT_S", 0.0)
    with (
        Lease.take(tmp_path / "out" / ".build" / "plan.lease"),
        pytest.raises(DataError, match="no plan after 0 hours"),
    ):
        build(audio, tmp_path / "out", **SMALL, task="1/2")


def test_the_first_plan_holds(audio, tmp_path):
    """Also where two processes believe that they alone make it."""
    out = tmp_path / "out"
    build(audio, out, **SMALL, task="1/2")
    scratch = build_module.BuildFolder(out)
    plan = scratch.load_plan()
    other = type(plan)(plan.settings, "elsewhere", "", 0, plan.sources)
    assert scratch.publish(other) == plan
    assert scratch.load_plan() == plan


def test_the_same_task_twice_at_once(audio, tmp_path):
    out = tmp_path / "out"
    with Lease.take(out / ".build" / "task-2-of-3.lease"):
        with pytest.raises(DataError, match=r"task 2/3, is writing to .* \(host .*, process \d+.*\): wait for it"):
            build(audio, out, **SMALL, task="2/3")
        with pytest.raises(DataError, match="task 2/3, is writing"):
            build(audio, out, **SMALL, task="1/2")
        with pytest.raises(DataError, match="task 2/3, is writing"):
            build(audio, out, **SMALL)
        build(audio, out, **SMALL, task="1/3")


def test_two_that_work_on_the_same_part_harm_nothing(audio, whole, tmp_path, monkeypatch):
    """As when a node was frozen for so long that its lease was given to another."""
    out, refused = tmp_path / "out", []
    original = running._run_part

    def work(*arguments):
        try:
            original(*arguments)
        except DataError as error:
            refused.append(str(error))

    def twice(*arguments):
        threads = [threading.Thread(target=work, args=arguments) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return original(*arguments)

    monkeypatch.setattr(running, "_run_part", twice)
    build(audio, out, **SMALL)
    assert contents(out) == whole
    assert all("another build has taken over part" in told for told in refused)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 3}', '{"sources": {}}'])
def test_a_damaged_plan_is_one_clear_error(audio, tmp_path, content):
    out = tmp_path / "out"
    (out / ".build").mkdir(parents=True)
    (out / ".build" / "plan.json").write_text(content)
    for command in (lambda: build(audio, out, **SMALL), lambda: merge(out)):
        with pytest.raises(DataError, match=r"plan.json is damaged or of another version: delete"):
            command()


def test_a_damaged_result_is_one_clear_error(audio, tmp_path):
    out = tmp_path / "out"
    build(audio, out, **SMALL, task="1/2")
    next(out.glob(".build/part-*.json")).write_text("{}")
    with pytest.raises(DataError, match="is damaged: delete it and run the build again"):
        build(audio, out, **SMALL)


def test_a_plan_of_another_data_set_is_refused(audio, tmp_path):
    out = tmp_path / "out"
    build(audio, out, **SMALL, task="1/2")
    plan = (out / ".build" / "plan.json").read_text()
    other = tmp_path / "other"
    add_recordings(tmp_path / "few", range(50, 53))
    build(tmp_path / "few", other, **SMALL)
    (other / ".build").mkdir()
    (other / ".build" / "plan.json").write_text(plan)
    with pytest.raises(DataError, match="belongs to another state"):
        build(tmp_path / "few", other, **SMALL)


def test_strict_and_nothing_kept(tmp_path):
    bad = tmp_path / "bad"
    add_recordings(bad, range(2))
    for file in bad.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 3])
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"no recording in .* could be read \(00.wav: truncated or damaged: only"):
        build(bad, out, **SMALL, task="1/1")
    assert not out.exists()
    add_recordings(bad, range(2, 4))
    build(bad, out, **SMALL, task="1/2")
    with pytest.raises(DataError, match="2 audio files were skipped and --strict is set"):
        build(bad, out, **SMALL, task="2/2", strict=True)
    with pytest.raises(DataError, match="2 audio files were skipped"):
        merge(out, strict=True)
    assert len(Manifest.load(out).sources) == 4
    assert merge_module.Task.parse("3/16") == merge_module.Task(3, 16)
