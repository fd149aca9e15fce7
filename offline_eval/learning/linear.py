"""Softmax-linear policies, fitted by L-BFGS."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from bandits.ad_load import LinearModel, softmax
from bandits.arrays import F64
from offline_eval.learning.objective import Objective
from offline_eval.learning.study import Task

RIDGE = 1e-5
"""Of the squared weights, in units of the reward: keeps separable data from driving them to infinity."""
STEPS = 150
BOUND = 1e6


def fit_linear(task: Task, objective: Objective) -> LinearModel:
    """The softmax policy of temperature 1 of largest objective, found from the even policy on; the same each time."""
    n_loads, width = task.allowed.shape[1], task.z.shape[1] + 1
    design = np.column_stack([task.z, np.ones(len(task.z))])

    def loss(flat: F64) -> tuple[float, F64]:
        value, slope = value_and_gradient(flat.reshape(n_loads, width), design, task, objective)
        return -value, -slope.ravel()

    start = np.zeros(n_loads * width)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    theta = np.clip(np.nan_to_num(found.x), -BOUND, BOUND).reshape(n_loads, width)
    return LinearModel(theta[:, :-1].copy(), theta[:, -1].copy())


def value_and_gradient(theta: F64, design: F64, task: Task, objective: Objective) -> tuple[float, F64]:
    """The objective less the ridge penalty, and its gradient by theta, float64 (L, F + 1), the bias last."""
    pi = softmax(design @ theta.T, task.allowed)
    value, by_pi = objective(pi)
    by_score = pi * (by_pi - (pi * by_pi).sum(axis=1, keepdims=True))
    weights = theta.copy()
    weights[:, -1] = 0.0
    return value - RIDGE * float((weights**2).sum()) / 2, by_score.T @ design - RIDGE * weights
