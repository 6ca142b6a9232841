"""What the catalogue says of a trained run is what its folders hold."""

import shutil

import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import checkpoints, trajectory
from repsim_nb.system.shipped import data_dir

RUN = "tiny-neox-w32-d4-s3"


def test_trajectory_lists_the_checkpoints_and_the_end_in_order_of_steps():
    run = trajectory(RUN)
    assert run.index.tolist() == [0, 50, 150, 500, 1000, 1500]
    assert {f"step{step}" for step in run.index} == {*checkpoints(RUN)}
    assert run.loss.iloc[-1] == rs.list_models().loss[RUN]
    assert run.loss.iloc[0] == rs.list_models().untrained_loss[RUN]
    assert run.loss.is_monotonic_decreasing
    assert (
        rs.load_model(run.checkpoint[0]).provenance["weights_sha256"]
        == (rs.load_model(f"{RUN}@step0").provenance["weights_sha256"])
    )


def test_trajectory_reads_a_folder_of_runs(tmp_path):
    for name in (RUN, f"{RUN}@step50", f"{RUN}@step0"):
        shutil.copytree(data_dir() / name, tmp_path / name)
    run = trajectory(RUN, tmp_path)
    assert run.index.tolist() == [0, 50, 1500]
    assert run.checkpoint[50] == str(tmp_path / f"{RUN}@step50")
    assert run.loss.equals(trajectory(RUN).loss[run.index])


def test_trajectory_says_what_there_is():
    with pytest.raises(InputError, match=f"Unknown model 'tiny-neox-w32-d4-s9'. Did you mean '{RUN}'"):
        trajectory("tiny-neox-w32-d4-s9")
    with pytest.raises(InputError, match="no held-out loss"):
        trajectory("tiny-bert-nli-00")
    with pytest.raises(InputError, match=f"Did you mean '{RUN}'"):
        trajectory(f"{RUN}@step50")
    with pytest.raises(FileNotFoundError, match="The folder nowhere of trained models does not exist"):
        trajectory(RUN, "nowhere")
