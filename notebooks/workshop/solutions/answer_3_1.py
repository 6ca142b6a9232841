answer_3_1 = itself.penalty
