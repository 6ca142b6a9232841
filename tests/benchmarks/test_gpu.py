"""The benchmark for accelerators, with the CPU in place of one."""

import pandas as pd
import pytest
import torch

import repsim_nb as rs
from tests.benchmarks import bench_gpu

MODEL = "tiny-neox-w32-d2"


@pytest.fixture(scope="module")
def table():
    texts = [text[:150] for text in rs.load_corpus("python-docs", limit=30).texts]
    return bench_gpu.measure(MODEL, "cpu", texts, n_rows=128, documents=12)


def test_measure_has_one_line_per_job_device_and_dtype(table):
    assert list(table) == bench_gpu.COLUMNS
    jobs = {job: len(lines) for job, lines in table.groupby("job")}
    assert jobs == {"extraction": 5, "compare": 3, "stitch": 3}  # extraction also with batches by memory
    extracted = table[table.job == "extraction"]
    assert (extracted[["tokens", "seconds", "forward", "ratio", "tokens_per_second"]] > 0).all(axis=None)
    assert (extracted.tokens == extracted.tokens.iloc[0]).all()


def test_measure_finds_no_difference_where_the_device_is_the_same(table):
    same = table[table.dtype == "float32"]
    by_default = same[(same.job != "extraction") | (same.batch_tokens == same.batch_tokens.iloc[0])]
    assert (by_default.difference == 0).all()
    assert (same.difference < 1e-4).all()  # batches of another size round differently


def test_measure_finds_the_rounding_of_bfloat16_and_no_more(table):
    rounded = table[table.dtype == "bfloat16"]
    assert (rounded.difference > 0).all()
    assert (rounded.difference <= rounded.allowed).all()


def test_difference_is_in_standard_deviations_of_the_layer():
    reference = {0: torch.tensor([[0.0, 2.0], [4.0, 6.0]])}
    moved = {0: reference[0] + 1}
    assert bench_gpu.difference("extraction", moved, reference) == pytest.approx(1 / reference[0].std().item())
    assert bench_gpu.difference("compare", moved, reference) == 1


def test_main_ends_with_0_where_there_is_no_accelerator(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_gpu, "accelerator", lambda: None)
    assert bench_gpu.main(MODEL, str(tmp_path / "gpu.csv")) == 0
    assert "no GPU" in capsys.readouterr().out
    assert not (tmp_path / "gpu.csv").exists()


@pytest.mark.parametrize(("found", "code"), [(0.01, 0), (0.5, 1)])
def test_main_writes_the_table_and_says_what_does_not_agree(monkeypatch, tmp_path, capsys, found, code):
    line = dict.fromkeys(bench_gpu.COLUMNS, 1.0) | {"job": "compare", "dtype": "bfloat16", "device": "cpu"}
    line |= {"difference": found, "allowed": 0.1}
    monkeypatch.setattr(bench_gpu, "measure", lambda name, device: pd.DataFrame([line], columns=bench_gpu.COLUMNS))
    assert bench_gpu.main(MODEL, str(tmp_path / "new" / "gpu.csv"), "cpu") == code
    printed = capsys.readouterr().out
    assert "| job | device | dtype |" in printed
    assert ("differs by 0.5, more than 0.1" in printed) == bool(code)
    assert list(pd.read_csv(tmp_path / "new" / "gpu.csv")) == bench_gpu.COLUMNS
