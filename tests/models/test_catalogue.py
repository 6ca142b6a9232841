"""What the catalogue says of a trained run is what its folders hold."""

import shutil

import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.errors import InputError
from repsim_nb.models import checkpoints, families, trajectory
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


@pytest.fixture(scope="module")
def models():
    return rs.list_models()


def test_list_models_holds_every_model_and_shows_families(models):
    assert {RUN, "tiny-bert-nli-07", "smollm2-135m", "EleutherAI/pythia-70m"} <= {*models.index}
    for shown in (repr(models), models._repr_html_()):
        assert f"{len(models)} models in {models.family.nunique()} families" in shown
        assert "tiny-bert-nli-07" not in shown
    assert len(repr(models).splitlines()) == models.family.nunique() + 4


@pytest.mark.parametrize("part", ["head", "copy_of_columns", "reindexed", "selected"])
def test_what_is_taken_from_the_catalogue_shows_what_it_holds(models, part):
    taken = {
        "head": models.head(),
        "copy_of_columns": models[["n_layers", "d_model"]].head(),
        "reindexed": models.reindex([RUN]),
        "selected": models[models.family == "tiny-gelu"],
    }[part]
    assert type(taken) is pd.DataFrame
    assert taken.index[0] in repr(taken)


def test_list_models_shows_the_members_of_one_family(models):
    members = rs.list_models(family="tiny-bert-nli")
    assert members.index.tolist() == [f"tiny-bert-nli-{i:02}" for i in range(40)]
    pd.testing.assert_frame_equal(members, pd.DataFrame(models.loc[members.index]))
    assert "tiny-bert-nli-07" in members.to_string()
    with pytest.raises(InputError, match=r"Unknown family 'tiny-bert-nly'\. Did you mean 'tiny-bert-nli'"):
        rs.list_models(family="tiny-bert-nly")


def test_families_are_told_by_their_members(models):
    table = families()
    assert table.index.tolist() == models.family.unique().tolist()
    assert table.models.sum() == len(models)
    assert ", ".join(table.names).split(", ") == [n for f in table.index for n in models.index[models.family == f]]
    assert table.loc["pythia", ["n_layers", "d_model", "n_parameters"]].tolist() == [
        "6 to 36",
        "128 to 5120",
        "14.1 M to 11.8 B",
    ]
    assert (table["for"] != "").all(), "say in models/family_table.py what a new family is for"


def test_a_catalogue_without_its_families_is_an_ordinary_table():
    models = rs.list_models()
    del models["family"]
    assert "tiny-bert-b-nli-00" in repr(models)
    assert "tiny-bert-b-nli-00" in models._repr_html_()
