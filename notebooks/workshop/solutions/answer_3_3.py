answer_3_3 = np.exp(joined.penalty)
