import json
import re

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


def test_a_mark_in_front_and_hidden_files_are_no_text(tmp_path):
    for name in ("a.txt", "deep/b.md", ".c.txt", ".ipynb_checkpoints/a-checkpoint.txt", "deep/.git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"In {name}.", encoding="utf-8-sig")
    assert rs.load_corpus(tmp_path).texts == ("In a.txt.", "In deep/b.md.")
    assert rs.load_corpus(tmp_path / ".c.txt").texts == ("In .c.txt.",)
    (tmp_path / "rows.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n', encoding="utf-8-sig")
    assert rs.load_corpus(tmp_path / "rows.jsonl").texts == ("One.", "Two.")


def test_list_corpora_names_what_can_be_loaded():
    for name in rs.list_corpora().index:
        assert len(rs.load_corpus(name)) > 0


def test_a_dataset_that_cannot_be_had_says_so_in_one_line():
    with pytest.raises(InputError, match="Cannot read the dataset 'owner/name'") as caught:
        rs.load_corpus("owner/name")
    assert "\n" not in str(caught.value)


def lines(file, *rows):
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


def test_json_lines_are_documents_by_a_column(tmp_path):
    rows = [{"body": "One.", "n": 1}, {"body": " ", "n": 2}, {"n": 3}, {"body": "Zwei 🦊", "n": 4}, {"body": "Three."}]
    file = lines(tmp_path / "some.jsonl", *rows)
    corpus = rs.load_corpus(file, column="body")
    assert corpus.texts == ("One.", "Zwei 🦊", "Three.")
    assert corpus.documents == ("some.jsonl:0", "some.jsonl:3", "some.jsonl:4")
    assert corpus.provenance["source"] == {"path": str(file), "column": "body", "rows_read": "5"}
    assert rs.load_corpus(str(file), column="body", limit=2).texts == corpus.texts[:2]
    assert rs.load_corpus(lines(tmp_path / "text.jsonl", {"text": "By default."})).texts == ("By default.",)


def test_json_lines_are_labelled_pairs_where_there_are_no_texts(tmp_path):
    pairs = [("a", "c", "yes"), (None, "d", "no"), ("b", "e", None), ("f", "g", "no")]
    rows = [dict(zip(("premise", "hypothesis", "label"), pair, strict=True)) for pair in pairs]
    corpus = rs.load_corpus(lines(tmp_path / "pairs.jsonl", *rows))
    assert corpus.inputs == (("a", "c"), ("f", "g"))
    assert corpus.labels == ("yes", "no")
    assert corpus.cases is None


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        ('{"body": "One."}', {}, "no column 'text', nor 'premise' .*; there are: body. Say which column"),
        ('{"body": "One."}', {"column": "bdy"}, "Unknown column 'bdy'. Did you mean 'body'"),
        ('{"n": 3}', {"column": "n"}, "column 'n' holds int, not text"),
        ('{"premise": "a", "hypothesis": "b", "label": 0}', {}, "labels are numbers, and nothing says"),
        ('{"text": ""}', {}, "holds no text: 1 lines are empty"),
        ("", {"column": "text"}, "Unknown column 'text'"),
        ('{"text": "One."}\nTwo.', {}, "line 2 is no JSON object"),
        ('{"text": "One."}', {"split": "train"}, "has no splits"),
        ('{"text": "One."}', {"config": "en"}, "for datasets on the hub"),
        ('{"text": "One."}', {"limit": 0}, "limit=0; expected a positive whole number"),
    ],
)
def test_bad_json_lines_say_what_is_wrong(tmp_path, content, how, message):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        rs.load_corpus(tmp_path / "bad.jsonl", **how)


def test_a_limit_takes_the_first_documents_and_a_column_needs_a_table(tmp_path):
    whole = rs.load_corpus("python-docs")
    assert rs.load_corpus("python-docs", limit=3).texts == whole.texts[:3]
    assert rs.load_corpus(["a", "b", "c"], limit=2).texts == ("a", "b")
    assert rs.load_corpus(["a"], limit=2).texts == ("a",)
    with pytest.raises(InputError, match="files of JSON lines"):
        rs.load_corpus("python-docs", column="text")
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        rs.load_corpus(tmp_path / "absent.jsonl")
