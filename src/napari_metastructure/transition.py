"""Noise transition matrices: what the noise does to each class, and what is left of them.

``Q[j, i]`` is the probability that a pixel truly of class j carries class i in the noisy label
(Luo et al., AAAI 2022, arXiv 2103.11594, "Noise transition matrix").
"""

import numpy as np

from napari_metastructure import noise

__all__ = ["of"]


def of(spec, num_classes, *, fractions=None):
    """The transition matrix of a corruption, in closed form.

    Parameters
    ----------
    spec : NoiseSpec, str, mapping, or a sequence of these
        What `noise.corrupt` takes. The matrices of a chain are multiplied.
    num_classes : int
        Number of classes, background included.
    fractions : float or sequence of float, optional
        Share of each class in the clean label, needed for the kind "random" where the spec has no
        fractions of its own.

    Returns
    -------
    (num_classes, num_classes) array of float64
        Row: true class, column: noisy class; rows sum to 1.

    Raises
    ------
    ValueError
        For perturbations (shift, dilate, erode, skeletonize), which have no matrix of their own,
        and for specs that do not fit the number of classes.
    """
    matrix = np.eye(num_classes)
    for step in noise.specs(spec):
        matrix = matrix @ _closed_form(step, num_classes, fractions)
    return matrix


def _closed_form(spec, size, fractions):
    matrix = np.eye(size)
    if spec.kind == "sample":
        matrix *= spec.fraction
        matrix[:, 0] += 1 - spec.fraction
        matrix[0] = np.eye(size)[0]
    elif spec.kind == "flip":
        if size > 1:
            others = spec.ratio / (size - 1)
            matrix = np.full((size, size), others) + (1 - spec.ratio - others) * matrix
    elif spec.kind == "transition":
        matrix = noise.check_matrix(spec.matrix)
    elif spec.kind == "random":
        shares = spec.fractions if spec.fractions is not None else fractions
        if shares is None:
            raise ValueError("The matrix of random labels needs fractions, the share per class.")
        matrix = np.tile(noise.check_fractions(shares), (size, 1))
    else:
        raise ValueError(
            f"{spec.kind} moves borders and has no transition matrix in closed form; estimate it "
            "by counting, with transition.estimate(clean, noisy)."
        )
    if matrix.shape[1] != size or len(matrix) != size:
        raise ValueError(f"{spec.kind} is made for {matrix.shape[1]} classes, not for {size}.")
    if spec.classes is not None:
        kept = [c for c in range(size) if c not in spec.classes]
        matrix[kept] = np.eye(size)[kept]
    return matrix
