answer_4_1 = ("the guard admired the baker", "the baker admired the guard")
