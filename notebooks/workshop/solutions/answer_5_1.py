ood = rs.load_corpus("nli-heuristics", "ood")
found = rs.compare_models({**anonymous, **references}, ["cka"], ood, layers=6, rows="cls", n_rows=settings.n_rows)
distances = found.cka.squeeze().to_pandas().loc[list(anonymous), list(references)]
answer_5_1 = distances.filter(like="generalizes").mean(axis=1).idxmin()
