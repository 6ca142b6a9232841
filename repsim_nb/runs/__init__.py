"""Run notebooks from start to end, with checked parameters, no hidden errors and atomic output."""

from repsim_nb.runs.arm_claims import arms_claim, groups_claim
from repsim_nb.runs.claims import Claim, claims_table, judged
from repsim_nb.runs.execution import Run, RunError, run_notebook
from repsim_nb.runs.index import write_index
from repsim_nb.runs.joint_claims import jointly
from repsim_nb.runs.notebook_parameters import ParameterError
from repsim_nb.runs.notebooks import list_notebooks
from repsim_nb.runs.outputs import save_figure, save_table
from repsim_nb.runs.presets import settle
from repsim_nb.runs.results_folder import RUN_DIR, output_dir
from repsim_nb.runs.sources import check_sources
from repsim_nb.runs.sweep import sweep_notebook
from repsim_nb.system.p_value import at_most

__all__ = [
    "RUN_DIR",
    "Claim",
    "ParameterError",
    "Run",
    "RunError",
    "arms_claim",
    "at_most",
    "check_sources",
    "claims_table",
    "groups_claim",
    "jointly",
    "judged",
    "list_notebooks",
    "output_dir",
    "run_notebook",
    "save_figure",
    "save_table",
    "settle",
    "sweep_notebook",
    "write_index",
]
