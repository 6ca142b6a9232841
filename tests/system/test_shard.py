"""Shares of one call: together they do everything once, and none says that the whole is done."""

import pytest

from repsim_nb.errors import InputError
from repsim_nb.system.cluster import opened
from repsim_nb.system.executor import mapped
from repsim_nb.system.shard import Shard, ShareDone


def noted(folder, unit):
    (folder / str(unit)).touch(exist_ok=False)


@pytest.mark.parametrize("of", [1, 2, 3, 10])
def test_shards_divide_units_without_rest_or_overlap(of):
    units = list(range(7))
    shares = [Shard(number, of).take(units) for number in range(1, of + 1)]
    assert sorted(unit for share in shares for unit in share) == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_mapped_does_a_share_and_leaves_the_rest(tmp_path):
    for number, there in ((1, ["0", "2", "4"]), (2, ["0", "1", "2", "3", "4"])):
        with pytest.raises(ShareDone, match=f"Share {number} of 2 is done, {3 if number == 1 else 2} of 5 units"):
            list(mapped(noted, tmp_path, range(5), Shard(number, 2), what="notes", kept=True))
        assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_mapped_refuses_a_share_of_what_is_not_kept(tmp_path):
    with pytest.raises(InputError, match=r"needs results that are kept on disk. Give out="):
        list(mapped(noted, tmp_path, range(5), Shard(1, 2), what="notes"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5"])
def test_parsed_says_what_a_share_looks_like(text):
    with pytest.raises(InputError, match=r"expected I/N with I from 1 to N"):
        Shard.parsed(text)


def test_opened_takes_an_executor_or_a_share_and_not_both(tmp_path):
    with opened(None) as executor:
        assert executor is None
    with opened(None, "2/5") as executor:
        assert executor == Shard(2, 5)
    for text, message in [
        ("daks", "expected dask"),
        ("dask:", "expected dask"),
        (f"dask:{tmp_path / 'absent.json'}", "there is no file"),
    ]:
        with pytest.raises(InputError, match=message), opened(text):
            pass
    with pytest.raises(InputError, match="both say where"), opened("dask", "1/2"):
        pass
