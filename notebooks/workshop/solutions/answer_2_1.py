answer_2_1 = 1000
