import json
import re
import types

import pandas as pd
import pytest

import repsim_nb as rs
from repsim_nb.corpora import python_docs
from repsim_nb.errors import InputError


@pytest.fixture(scope="module")
def records():
    return python_docs.build()


def shingles(text):
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_python_docs_has_prose_and_code_in_three_splits(records):
    found = {(r.name.split(":")[0], r.split) for r in records}
    assert found == {(kind, split) for kind in ("prose", "code") for split in ("train", "validation", "test")}
    assert len({r.name for r in records}) == len(records)


def test_no_document_of_one_split_is_half_contained_in_a_document_of_another(records):
    """Checked exactly, on sets of shingles; the builder works on hashes."""
    where = {}
    sets = [shingles(r.text) for r in records]
    for i, found in enumerate(sets):
        for shingle in found:
            where.setdefault(shingle, []).append(i)
    for i, record in enumerate(records):
        if record.split == "train":
            continue
        shared: dict[int, int] = {}
        for shingle in sets[i]:
            for j in where[shingle]:
                if records[j].split != record.split:
                    shared[j] = shared.get(j, 0) + 1
        for j, count in shared.items():
            assert count < 0.5 * min(len(sets[i]), len(sets[j])), (record.name, records[j].name)


def test_an_edited_docstring_stays_in_its_split(records):
    by_name = {r.name: r for r in records}
    name = next(n for n in by_name if n.startswith("prose:numpy.linalg"))
    assert python_docs._split(name) == by_name[name].split  # a function of the name, of nothing else


def test_near_duplicates_are_dropped_and_the_longer_text_is_kept():
    words = [f"word{i}" for i in range(200)]
    long, short = " ".join(words), " ".join(words[:120])
    other = " ".join(f"other{i}" for i in range(120))
    assert set(python_docs._without_near_duplicates({"a": short, "b": long, "c": other})) == {"b", "c"}


def test_code_documents_carry_no_docstring():
    import ast

    source = 'def f():\n    """Says what f does."""\n    return 1\n'
    assert dict(python_docs._code(ast.parse(source), source, "m")) == {"code:m/f": "def f():\n    return 1"}


def test_the_same_corpus_has_the_same_hash_and_a_cached_one_equals_a_built_one(records):
    once = rs.load_corpus("python-docs")
    python_docs.build.cache_clear()
    again = rs.load_corpus("python-docs")
    assert once == again
    assert once.sha256 == again.sha256 == again.provenance["sha256"]
    assert once.sha256 != rs.load_corpus("python-docs", split="validation").sha256


def test_own_text_file_folder_and_strings(tmp_path):
    (tmp_path / "b.txt").write_text("One.\nStill one.\n\n\nTwo.\n   \nThree.", encoding="utf-8")
    (tmp_path / "a.md").write_text("Zero.", encoding="utf-8")
    file = rs.load_corpus(tmp_path / "b.txt")
    assert file.texts == ("One.\nStill one.", "Two.", "Three.")
    folder = rs.load_corpus(str(tmp_path))
    assert folder.texts == ("Zero.", *file.texts)
    assert folder.documents == ("a.md:0", "b.txt:0", "b.txt:1", "b.txt:2")
    assert rs.load_corpus(["Zero.", *file.texts]).texts == folder.texts
    assert rs.load_corpus(folder) is folder


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("python-dosc", "Did you mean 'python-docs'"),
        ([], "no texts"),
        (["a", " "], "number 1 of the corpus is empty"),
        ([1], "type int"),
        (3, "received int"),
    ],
)
def test_bad_corpora_say_what_is_wrong(given, message):
    with pytest.raises(InputError, match=message):
        rs.load_corpus(given)


def test_bad_splits_files_and_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'train'"):
        rs.load_corpus("python-docs", split="trian")
    with pytest.raises(InputError, match="no splits"):
        rs.load_corpus(["Some text."], split="train")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        rs.load_corpus(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="holds no text file"):
        rs.load_corpus(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n\n")
    with pytest.raises(InputError, match="only white space"):
        rs.load_corpus(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        rs.load_corpus(tmp_path / "latin.txt")


def test_list_corpora_names_what_can_be_loaded():
    for name in rs.list_corpora().index:
        assert len(rs.load_corpus(name)) > 0


def test_a_dataset_that_cannot_be_had_says_so_in_one_line():
    with pytest.raises(InputError, match="Cannot read the dataset 'owner/name' from the hub") as caught:
        rs.load_corpus("owner/name")
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub_dataset(tmp_path, monkeypatch):
    """A folder that stands for a dataset on the hub; returns what the hub says of its files."""
    import huggingface_hub

    def described(_, name):
        files = [types.SimpleNamespace(rfilename=p.relative_to(tmp_path).as_posix()) for p in tmp_path.rglob("*.*")]
        return types.SimpleNamespace(sha="c0ffee", siblings=files)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", described)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, file, **__: str(tmp_path / file))
    return tmp_path


def test_the_texts_of_a_hub_dataset_are_a_corpus(hub_dataset):
    (hub_dataset / "README.md").touch()
    with pytest.raises(InputError, match="no parquet file"):
        rs.load_corpus("owner/name")
    pd.DataFrame({"meta": [0]}).to_parquet(hub_dataset / "b.parquet")
    with pytest.raises(InputError, match="no parquet file"):
        rs.load_corpus("owner/name")
    pd.DataFrame({"text": ["One.", "", "Two."], "meta": [0, 1, 2]}).to_parquet(hub_dataset / "a.parquet")
    corpus = rs.load_corpus("owner/name")
    assert corpus.texts == ("One.", "Two.")
    assert corpus.provenance["source"] == {"hub": "owner/name", "commit": "c0ffee"}


def test_the_pairs_of_a_hub_dataset_are_a_labelled_corpus(hub_dataset):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = pd.DataFrame({"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [1, -1, 0]})
    names = {"label": {"names": ["entailment", "neutral"], "_type": "ClassLabel"}}
    schema = {b"huggingface": json.dumps({"info": {"features": names}}).encode()}
    (hub_dataset / "data").mkdir()
    for split, table in (("validation_matched", pairs), ("validation_mismatched", pairs[:1])):
        file = hub_dataset / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pandas(table).replace_schema_metadata(schema), file)
    corpus = rs.load_corpus("owner/name", "validation_matched")
    assert corpus.inputs == (("a", "d"), ("c", "f"))
    assert corpus.labels == ("neutral", "entailment")
    assert corpus.cases is None
    assert len(rs.load_corpus("owner/name")) == 3
    with pytest.raises(InputError, match="Did you mean 'validation_matched'"):
        rs.load_corpus("owner/name", "validation_match")


def test_the_sub_cases_of_a_hub_dataset_are_kept(hub_dataset):
    row = {"premise": "a", "hypothesis": "b", "label": "non-entailment", "heuristic": "constituent", "subcase": "cn_x"}
    pd.DataFrame([row]).to_parquet(hub_dataset / "validation.parquet")
    corpus = rs.load_corpus("owner/name", "validation")
    assert corpus.cases == ("constituent/non-entailment/cn_x",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"label": [0, 1]}, "numbers, and the file does not say"),
        ({"label": [None, None]}, "with a 'label', and rows in it"),
    ],
)
def test_pairs_without_labels_that_mean_something_are_refused(hub_dataset, rows, message):
    pd.DataFrame({"premise": ["a", "b"], "hypothesis": ["c", "d"]} | rows).to_parquet(hub_dataset / "all.parquet")
    with pytest.raises(InputError, match=message):
        rs.load_corpus("owner/name")


def test_pairs_that_lack_something_are_left_out(hub_dataset):
    frame = pd.DataFrame({"premise": ["a", None, "b"], "hypothesis": ["c", "d", "e"], "label": ["yes", "no", None]})
    frame.to_parquet(hub_dataset / "all.parquet")
    assert rs.load_corpus("owner/name").inputs == (("a", "c"),)
