answer_1_4 = x[:, ::-1]
