answer_2_2 = np.flatnonzero(np.linalg.norm(noise_x, axis=1) > 50)
