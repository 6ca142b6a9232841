answer_3_5 = by_layer.trained.idxmin()
