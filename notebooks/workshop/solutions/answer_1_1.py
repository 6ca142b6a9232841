answer_1_1 = model_b.n_layers + 1
