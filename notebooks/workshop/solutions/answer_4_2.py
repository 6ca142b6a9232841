answer_4_2 = by_case.std().idxmax()
