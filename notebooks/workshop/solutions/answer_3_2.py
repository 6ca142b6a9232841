answer_3_2 = penalties.idxmin()
