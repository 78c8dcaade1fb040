"""Why a network is no better than guessing: what its answers look like."""

import numpy as np

from resnetlab.evaluation.answers import Answers

PER_CLASS = 10  # images, on average, from which a mapping of classes can be told from luck
RIGHT_ELSEWHERE = 0.3  # of the images, by the best mapping of true classes to predicted ones
OF_FEW = 0.75  # at most, of the images, by the best mapping of a few classes; of two, a random one gives half
ABOVE = 0.1  # of the images, beyond those that take the most frequent class: one answer alone is no mapping
ALL_THE_SAME = 0.5  # of the images take one class


def likely_cause(found: Answers) -> str:
    """What may be wrong where the error is that of guessing: the order of classes, or the weights or pixels."""
    from scipy.optimize import linear_sum_assignment  # takes a second

    matrix = found.confusion()
    total = matrix.sum()
    if total >= PER_CLASS * len(np.unique(found.labels)):
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        moved = np.flatnonzero(rows != columns)
        right = matrix[rows, columns].sum() / total
        by_luck = max(min(2 / len(found.classes), OF_FEW), matrix.sum(0).max() / total + ABOVE)
        if len(moved) and right > max(RIGHT_ELSEWHERE, by_luck):
            here = moved[np.argmax(matrix[rows[moved], columns[moved]])]
            truth, taken = found.classes[rows[here]], found.classes[columns[here]]
            share = matrix[rows[here], columns[here]] / matrix[rows[here]].sum()
            return (
                f"The classes are in another order: {share:.0%} of {truth} is taken for {taken}, and with classes "
                f"renamed {right:.0%} would be right. Labels in another order than the "
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
