answer_1_5 = first_map.sel(layer_a=3).idxmax().item()
