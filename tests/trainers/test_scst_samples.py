"""The table of sampled captions."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from report import tables
from rewards.base import Candidate
from rewards.calculator import Rewards
from trainers.scst_samples import SampleTable, sample_rows
from trainers.step_rows import read_rows

REQUESTS = [{"image_id": "1", "style": "Dry"}, {"image_id": "2", "style": "Sweet"}]
CAPTIONS = [[Candidate("greedy", ended=True), Candidate("a dog", ended=False)]] * 2
SCORED = Rewards(np.array([[1.0, 2.0], [3.0, 4.00004]]), {"length": np.array([[5.0, 6.0], [7.0, 8.0]])}, 0.0)


def test_rows_by_hand():
    rows = sample_rows(REQUESTS, CAPTIONS, SCORED, kind="multinomial", drawn=1)
    assert [row["kind"] for row in rows] == ["greedy", "multinomial"] * 2
    assert rows[3] == {
        "image_id": "2",
        "style": "Sweet",
        "kind": "multinomial",
        "caption": "a dog",
        "ended": False,
        "reward": 4.0,
        "rewards": {"length": 8.0},
    }


def run_to(table: SampleTable, first: int, last: int) -> None:
    position: Any = SimpleNamespace(step=first, epoch=0, max_steps=9)
    table.run_begins(position)
    for step in range(first, last):
        position.step = step
        table.update_ended(position, {})


def test_each_n_updates_and_from_a_checkpoint_on(tmp_path):
    file = tmp_path / "samples.jsonl"
    table = SampleTable(file, lambda: sample_rows(REQUESTS, CAPTIONS, SCORED, kind="beam", drawn=2), every=3)
    run_to(table, 0, 7)
    steps = [row["step"] for row in read_rows(file)]
    assert steps == [step for step in (1, 3, 6) for _ in range(4)]
    with open(file, "a") as stream:
        stream.write('{"step": 6, "cap')  # a killed run's last line
    run_to(table, 4, 7)  # resumed from update 4: what was after it is sampled again
    assert [row["step"] for row in read_rows(file)] == steps
    run: Any = SimpleNamespace(samples=read_rows(file))
    assert {row["step"] for row in tables.samples(run)} == {1, 3, 6}
    assert tables.samples(SimpleNamespace(samples=[])) == []  # type: ignore[arg-type]
