answer_2_4 = (few.p_value <= 0.05).sum().item()
