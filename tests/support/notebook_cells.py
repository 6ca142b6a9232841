"""Notebooks run in this process, cell by cell: no kernel has to start, and what a cell shows is returned."""

import ast

import matplotlib.pyplot as plt


def run_cell(source, namespace):
    """Run a cell; return the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None


def run_cells(notebook, **parameters):
    """Run a notebook with parameters; return its names, and cell id -> what the cell shows."""
    namespace, shown = {"__name__": "__main__", "display": lambda *_: None}, {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown[cell.id] = run_cell(cell.source, namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= parameters
            plt.close("all")
    return namespace, shown
