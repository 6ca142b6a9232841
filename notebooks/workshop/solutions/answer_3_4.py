answer_3_4 = 1 - joined.penalty / (joined.mean_losses.mean - joined.receiver_loss)
