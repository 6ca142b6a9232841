"""Every kind of unit gives the same numbers here, on a pool and on a Dask cluster, also with workers that die."""

import pickle
from concurrent.futures import Executor

import numpy as np
import pytest
import torch
import xarray as xr

import repsim_nb as rs
from repsim_nb.activations import Store, extraction
from repsim_nb.activations.store import StoreWarning
from repsim_nb.depth import over_training
from repsim_nb.errors import InputError
from repsim_nb.system.executor import mapped
from repsim_nb.system.resources import Resources
from tests.support.clusters import die_once

SMALL, WIDE, DEEP = "tiny-neox-w32-d2", "tiny-neox-w64-d2", "tiny-neox-w32-d4"
ROUNDING = 1e-7  # of sums in float32, relative
TEXTS = [f"def function_{k}(x):\n    return x + {k}\n\n" * (5 + k % 7) for k in range(120)]  # little to tokenize
LEAST_SQUARES = {"fit": "least_squares", "n_fit": 16, "n_report": 4}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 6)).astype(np.float32)
    sides = {
        "one": x,
        "two": x + rng.normal(size=(90, 6)).astype(np.float32),
        "three": rng.normal(size=(90, 4)).astype(np.float32),
    }
    return {name: {0: values, 1: np.tanh(values)} for name, values in sides.items()}


def as_dataset(result):
    """Any result as one Dataset."""
    if isinstance(result, dict):
        return xr.Dataset(
            {
                " ".join(pair): value.rename({d: f"{d} {' '.join(pair)}" for d in value.dims}).reset_coords(drop=True)
                for pair, value in result.items()
            }
        )
    return result.to_dataset(name="values") if isinstance(result, xr.DataArray) else result


def family(executor, arrays):
    return rs.compare_family([SMALL, WIDE], TEXTS, n_sequences=5, length=32, at_once=2, executor=executor)


def training(executor, arrays):
    return over_training("tiny-neox-w64-d4", ["step50", "step500"], TEXTS, n_rows=150, executor=executor)


def population(executor, arrays):
    return rs.compare_models([SMALL, WIDE], ["cka", "procrustes"], TEXTS, n_rows=150, executor=executor)


def pairs_and_measures(executor, arrays):
    return rs.compare_models(arrays, ["cka", "rsa"], executor=executor)


def pairs(executor, arrays):
    return rs.compare_all(arrays, null=19, interval=True, executor=executor)


def stitches(executor, arrays):
    return rs.stitching_table([SMALL], [SMALL, WIDE], [1], TEXTS, **LEAST_SQUARES, executor=executor)


def permutations(executor, arrays):
    """Of linear CKA with few features, by updates."""
    groups = np.repeat(np.arange(30), 3)
    return rs.compare(arrays["one"], arrays["two"], null=29, interval=True, groups=groups, executor=executor)


def recomputed(executor, arrays):
    """Permutations of a measure that is recomputed each time."""
    return rs.compare(arrays["one"], arrays["two"], measure="procrustes", null=19, interval=True, executor=executor)


def streamed(executor, arrays):
    return rs.stream(SMALL, WIDE, TEXTS, n_rows=1200, rows_per_document=20, batch_tokens=400, executor=executor)


def two_models(executor, arrays):
    return rs.compare(SMALL, DEEP, TEXTS, n_rows=150, executor=executor)


class Dying(Executor):
    """A cluster in which the first unit kills its worker when all is done but the answer."""

    def __init__(self, cluster, mark):
        self.cluster, self.mark, self._client = cluster, str(mark), cluster._client

    def submit(self, task, *given):
        return self.cluster.submit(_dying, task, self.mark, *given)


def _dying(task, mark, *given):
    result = task(*given)
    die_once(mark)
    return result


KINDS = [
    *(family, training, population, pairs_and_measures, pairs),
    *(stitches, permutations, recomputed, streamed, two_models),
]
SUMS = {streamed: ROUNDING}


@pytest.fixture(scope="module")
def here(arrays):
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = kind(None, arrays)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_executors_change_no_number(kind, elsewhere, here, arrays):
    mine, theirs = as_dataset(here(kind)), as_dataset(kind(elsewhere, arrays))
    if kind in SUMS:
        xr.testing.assert_allclose(theirs, mine, rtol=SUMS[kind])
    else:
        xr.testing.assert_equal(theirs, mine)
    assert theirs.attrs == mine.attrs
    for name in mine.data_vars:
        assert theirs[name].attrs == mine[name].attrs


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_cluster_finishes_every_kind_of_unit_when_a_worker_is_killed_inside_it(kind, cluster, here, arrays, tmp_path):
    mine = as_dataset(here(kind))
    theirs = as_dataset(kind(Dying(cluster, tmp_path / "mark"), arrays))
    assert (tmp_path / "mark").exists()
    xr.testing.assert_allclose(theirs, mine, rtol=SUMS.get(kind, 1e-15))


def test_extract_aligned_runs_models_elsewhere(elsewhere):
    mine = rs.extract_aligned([SMALL, DEEP], TEXTS, n_rows=60)
    theirs = rs.extract_aligned([SMALL, DEEP], TEXTS, n_rows=60, executor=elsewhere)
    for a, b in zip(mine, theirs, strict=True):
        assert a.rows.equals(b.rows)
        assert a.provenance == b.provenance
        assert all(torch.equal(a[layer], b[layer]) for layer in a)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, pool: rs.extract_aligned([model, DEEP], executor=pool),
        lambda model, pool: rs.stream(model, executor=pool),
        lambda model, pool: rs.compare(model, executor=pool),
        lambda model, pool: rs.compare_family([SMALL, model], executor=pool),
        lambda model, pool: rs.stitching_table([model], [SMALL], executor=pool),
    ],
)
def test_models_in_memory_are_not_sent(pool, ask):
    with pytest.raises(InputError, match=r"tiny-neox-w32-d2 is a model in memory, which cannot be sent.*Give its name"):
        ask(rs.load_model(SMALL), pool)


def test_compare_runs_models_in_memory_here_and_permutations_elsewhere(pool):
    model = rs.load_model(SMALL)
    asked = {"n_rows": 150, "layers_a": [1], "layers_b": [2], "null": 19}
    xr.testing.assert_equal(rs.compare(model, **asked, executor=pool), rs.compare(model, **asked))


def test_compare_models_runs_models_in_memory_here_and_measures_elsewhere(pool, here):
    models = [rs.load_model(name) for name in (SMALL, WIDE)]
    theirs = rs.compare_models(models, ["cka", "procrustes"], TEXTS, n_rows=150, executor=pool)
    xr.testing.assert_equal(theirs, here(population))


def test_compare_says_that_an_executor_has_nothing_to_do(pool, arrays):
    with pytest.raises(InputError, match="executor would have no effect"):
        rs.compare(arrays["one"], arrays["two"], executor=pool)


def test_stream_refuses_to_cut_batches_whose_rows_are_compared(pool):
    with pytest.raises(InputError, match="parts would cut batches"):
        rs.stream(SMALL, measure=rs.get_measure("cka", batch=32), executor=pool)


def test_workers_that_read_other_texts_under_one_name_are_found_out():
    acts = rs.extract_aligned([SMALL, DEEP], n_rows=20)
    acts[1].provenance["corpus"] = acts[1].provenance["corpus"] | {"sha256": "0"}
    with pytest.raises(InputError, match="different texts under one name"):
        extraction._of_one_text(acts)


class Weighing(Executor):
    """A pool that weighs what comes back from it."""

    def __init__(self, pool):
        self.pool, self.futures = pool, []

    def submit(self, *given):
        self.futures.append(self.pool.submit(*given))
        return self.futures[-1]

    @property
    def heaviest(self):
        return max(len(pickle.dumps(future.result())) for future in self.futures)


def by_store(executor, store):
    return rs.extract_aligned([SMALL, DEEP], TEXTS, n_rows=900, rows_per_document=10, store=store, executor=executor)


def by_population(executor, store):
    return rs.compare_models(
        [SMALL, WIDE], "cka", TEXTS, n_rows=900, rows_per_document=10, store=store, executor=executor
    )


@pytest.mark.parametrize("ask", [by_store, by_population])
def test_activations_stay_in_a_store_that_workers_share(pool, tmp_path, monkeypatch, ask):
    monkeypatch.chdir(tmp_path)
    weighing = Weighing(pool)
    theirs = ask(weighing, "store")
    assert len(list(tmp_path.glob("store/*.safetensors"))) == 2, "a relative folder is that of the caller"
    assert weighing.heaviest < 900 * 3 * 32 * 4, "less than the smallest activations"
    mine = ask(None, None)
    if ask is by_population:
        xr.testing.assert_equal(theirs, mine)
    else:
        assert all(torch.equal(a[layer], b[layer]) for a, b in zip(mine, theirs, strict=True) for layer in a)


def test_activations_that_a_store_cannot_keep_travel(pool, tmp_path):
    with pytest.warns(StoreWarning, match="limit is 1 kB"):
        theirs = by_store(pool, Store(tmp_path, limit=1000))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(by_store(None, None), theirs, strict=True))


def test_activations_that_another_machine_keeps_to_itself_are_found_missing(pool, tmp_path):
    acts = by_store(None, tmp_path / "there")[0]
    with pytest.raises(
        InputError, match=r"stored the activations of tiny-neox-w32-d2, but .*here.* does not have them"
    ):
        extraction.arrived(extraction.departing(acts), Resources(store=tmp_path / "here"))


def _count_loads():
    """In a worker: write down what is loaded from now on."""
    from repsim_nb.stitching import planned

    loaded, load = [], planned.load_model
    planned.load_model = lambda name, *rest, **how: (loaded.append(name), load(name, *rest, **how))[1]
    planned.loaded_here = loaded


def _loads():
    from repsim_nb.stitching import planned

    planned.load_model = rs.load_model
    return planned.loaded_here


def test_a_worker_loads_each_model_of_a_table_once(cluster):
    cluster._client.run(_count_loads)
    table = rs.stitching_table([SMALL, DEEP], [SMALL, WIDE], [1, 2], TEXTS, **LEAST_SQUARES, executor=cluster)
    assert table.penalty.size == 8
    by_worker = list(cluster._client.run(_loads).values())
    assert by_worker, "no worker was asked"
    assert all(loaded in ([], [SMALL, DEEP, WIDE]) for loaded in by_worker)
    assert any(by_worker)


def _tried(file, error):
    with file.open("a") as log:
        print(error.__name__, file=log)
    raise error("no")


@pytest.mark.parametrize(("error", "times"), [(InputError, 1), (OSError, 3)])
def test_a_cluster_tries_again_what_may_succeed_and_not_what_is_wrong(cluster, tmp_path, error, times):
    with pytest.raises(error, match="no") as caught:
        list(mapped(_tried, tmp_path / "log", [error], cluster, what="trials", name=lambda _: "the only one"))
    assert caught.value.__notes__ == ["In trials: the only one."]
    assert (tmp_path / "log").read_text().split() == [error.__name__] * times
