answer_2_5 = "linear_regression"
