"""What a release needs besides code: metadata, recipes, workflows, forms. Nothing here has been published yet."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import repsim_nb
from repsim_nb.measures import list_measures

TOP = Path(__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}


def names(requirements):
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in requirements}


def text(*parts):
    return TOP.joinpath(*parts).read_text(encoding="utf-8")


def here(kind):
    """Files of this kind that are written by hand, hidden folders among them."""
    folders = ("docs", "notebooks", "repsim_nb", "tests", ".github", ".binder")
    found = [*TOP.glob(kind), *(path for folder in folders for path in (TOP / folder).rglob(kind))]
    return [path for path in found if "_build" not in path.parts]


def workflow(name):
    return yaml.safe_load(text(".github", "workflows", name))


def test_metadata_has_addresses_and_known_classifiers():
    from trove_classifiers import classifiers

    assert {"Documentation", "Repository", "Issues", "Changelog"} <= set(PROJECT["urls"])
    assert set(PROJECT["classifiers"]) <= classifiers
    assert PROJECT["version"] == repsim_nb.__version__


def test_addresses_are_in_one_place_and_the_recipe_that_cannot_read_them_agrees():
    urls = PROJECT["urls"]
    home = urls["Repository"]
    assert all(url.startswith(home) for name, url in urls.items() if name != "Documentation")
    recipe = text(".github", "conda", "meta.yaml")
    assert re.findall(r"(?:home|doc_url): (.*)", recipe) == [home, urls["Documentation"]]
    copies = re.compile("|".join(re.escape(url.partition("://")[2]) for url in (home, urls["Documentation"])))
    files = [path for kind in ("*.md", "*.py", "*.toml", "*.y*ml", "*.ipynb", "*.cff", "*.txt") for path in here(kind)]
    assert TOP / "README.md" in files
    having = {path.relative_to(TOP).as_posix() for path in files if copies.search(path.read_text(encoding="utf-8"))}
    assert having == {"pyproject.toml", ".github/conda/meta.yaml"}


def test_the_name_of_another_package_is_not_taken_for_ours():
    for page in (("README.md",), ("docs", "start.md"), ("CONTRIBUTING.md",)):
        assert re.search(r"`repsim`[^.]*another project", text(*page)), page


def test_the_conda_recipe_has_the_version_and_the_requirements_of_the_package():
    recipe = text(".github", "conda", "meta.yaml")
    assert f'version = "{PROJECT["version"]}"' in recipe
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    listed = [line.strip().removeprefix("- ") for line in run.splitlines()]
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lab"]]
    found = {CONDA_NAMES.get(name, name) for name in names(listed)} - {"python"}
    assert found == names(wanted)
    said = {re.sub(r"\s|^pytorch|_", lambda m: {"pytorch": "torch", "_": "-"}.get(m[0], ""), line) for line in listed}
    assert {re.sub("_", "-", line) for line in wanted} <= said


def test_binder_takes_the_cpu_build_of_the_torch_of_the_tests():
    lines = text(".binder", "requirements.txt").splitlines()
    pinned = next(line for line in text("constraints.txt").splitlines() if line.startswith("torch=="))
    assert f"{pinned}+cpu" in lines
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in lines
    assert "-c ../constraints.txt" in lines
    assert lines[-1] == ".[lab]"


def test_a_tag_publishes_what_the_tests_passed_without_a_token():
    release = workflow("release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    build, publish = release["jobs"]["build"], release["jobs"]["publish"]
    steps = [step.get("run", "") for step in build["steps"]]
    assert steps.index("make test PYTHON=python") < steps.index(".venv/bin/python -m build")
    assert any("GITHUB_REF_NAME" in step and "__version__" in step for step in steps)
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "password" not in text(".github", "workflows", "release.yml")


def test_the_manual_is_published_with_the_results_of_the_notebooks():
    steps = [step.get("run", "") for step in workflow("manual.yml")["jobs"]["publish"]["steps"]]
    assert steps.index("make figures PYTHON=python") < steps.index("make docs PYTHON=python")
    assert "gh-pages" in steps[-1]


@pytest.mark.parametrize("name", ["ci.yml", "manual.yml", "release.yml"])
def test_workflows_may_only_read_and_their_actions_are_pinned(name):
    given = workflow(name)
    assert given["permissions"] == {"contents": "read"}
    used = [step["uses"] for job in given["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(action.partition("@")[2] for action in used)


@pytest.mark.parametrize("name", ["bug", "model", "measure"])
def test_issue_forms_ask_for_what_is_needed(name):
    form = yaml.safe_load(text(".github", "ISSUE_TEMPLATE", f"{name}.yml"))
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    assert {part["type"] for part in form["body"]} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_hooks_before_a_commit_are_the_checks_of_make():
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    entries = {hook["id"]: hook["entry"] for hook in hooks}
    makefile = text("Makefile")
    assert set(entries) == {"ruff-check", "ruff-format", "mypy", "strip"}
    for entry in entries.values():
        tool = entry.removeprefix(".venv/bin/").split()[0]
        assert tool == "make" or f"$(BIN)/{tool}" in makefile
    pattern = next(hook["files"] for hook in hooks if hook["id"] == "strip")
    assert all(re.search(pattern, path.relative_to(TOP).as_posix()) for path in (TOP / "notebooks").glob("*.ipynb"))


def test_what_is_refused_is_said_in_the_security_policy():
    said = text("SECURITY.md")
    for word in ("Safetensors", "trust_remote_code", "telemetry", "pickles", "Report a vulnerability"):
        assert word in said


def test_contributions_are_shown_by_examples_that_run():
    said = text("CONTRIBUTING.md")
    for heading in ("Add a measure", "Add a model family", "Add a notebook", "Add a finding"):
        section = said.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert "```python" in section, heading
    assert "largest_feature" not in list_measures().index, "the example is not part of the package"
