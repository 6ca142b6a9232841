answer_2_3 = "cca"
