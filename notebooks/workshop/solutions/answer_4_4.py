answer_4_4 = joint.p_value.max()
