answer_1_3 = x[::-1]
