answer_4_3 = by_layer.p_value.idxmin()
