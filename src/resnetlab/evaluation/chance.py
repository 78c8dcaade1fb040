"""Why a network is no better than guessing: what its answers look like."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from resnetlab.evaluation.answers import Answers

PER_CLASS = 10  # images, on average, from which a mapping of classes can be told from luck
RIGHT_ELSEWHERE = 0.3  # of the images, by the best mapping of true classes to predicted ones
ALL_THE_SAME = 0.5  # of the images take one class


def likely_cause(found: Answers) -> str:
    """What may be wrong where the error is that of guessing: the order of classes, or the weights or pixels."""
    matrix = found.confusion()
    total = matrix.sum()
    if total >= PER_CLASS * len(np.unique(found.labels)):
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        moved = np.flatnonzero(rows != columns)
        guessed = max(2 / len(found.classes), matrix.sum(0).max() / total + 0.1)  # well above what luck gives
        if len(moved) and matrix[rows, columns].sum() / total > max(RIGHT_ELSEWHERE, min(guessed, 0.75)):
            here = moved[np.argmax(matrix[rows[moved], columns[moved]])]
            truth, taken = found.classes[rows[here]], found.classes[columns[here]]
            share = matrix[rows[here], columns[here]] / matrix[rows[here]].sum()
            return (
                f"The classes are in another order: {share:.0%} of {truth} is taken for {taken}, and with classes "
                f"renamed {matrix[rows, columns].sum() / total:.0%} would be right. Labels in another order than the "
                "images (ImageNet's devkit has its own numbers), or class names in another order than the outputs"
            )
    often = int(matrix.sum(0).argmax())
    share = matrix.sum(0)[often] / total
    if share > ALL_THE_SAME:
        return (
            f"{share:.0%} of the images are taken for {found.classes[often]}: weights that were never trained, or "
            "pixels that are not as in training (range, mean, order of colours; with `protocol=dense`, scale)"
        )
    return (
        "Likely causes: weights that were never trained, labels that do not belong to the images, or names of "
        "classes that are not in the order of the outputs"
    )
