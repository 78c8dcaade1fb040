# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why are deep networks hard to train, and what do shortcuts change?
#
# A notebook for a course. It trains four networks on handwritten digits, draws the paper's Figure 6 for them, and
# looks inside. It takes a few minutes without a GPU.
#
# He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015),
# [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).

# %%
import copy
import os
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import resnetlab

STEPS = int(os.environ.get("STEPS", "1000"))  # fewer are quicker, and show less
FOLDER = Path(os.environ.get("RUNS", "runs/notebook"))
NETWORKS = ("cifar_plain20", "cifar_plain56", "cifar_resnet20", "cifar_resnet56")

# %% [markdown]
# ## Train four networks
#
# Plain and residual networks of 20 and 56 layers. They differ in one thing: a block of a residual network adds its
# input to its output. The recipe is the paper's (Section 4.2) in proportion: SGD with momentum, the learning rate
# divided by 10 after half and after three quarters of the steps.

# %%
runs = {
    name: resnetlab.train("digits", network=name, iterations=STEPS, out=FOLDER / name, threads=1, progress=False)
    for name in NETWORKS
}
for name, run in runs.items():
    print(
        f"{name:15} training error {run.result['train_error']:6.2f} %   test error {run.result['test_error']:6.2f} %"
    )

# %% [markdown]
# ## The degradation
#
# Look at the *training* errors (dashed). If the deeper plain network overfitted, its training error would be low and
# only its test error high. Is that so?

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for axis, kind in zip(axes, ("plain", "resnet"), strict=True):
    for depth, colour in ((20, "#c8a200"), (56, "#d62728")):
        curve = runs[f"cifar_{kind}{depth}"].curve
        steps = [point["step"] for point in curve]
        axis.plot(steps, [point["train_error"] for point in curve], "--", color=colour, linewidth=1)
        axis.plot(steps, [point["test_error"] for point in curve], color=colour, label=f"{kind}-{depth}")
    axis.set_xlabel("step")
    axis.legend()
axes[0].set_ylabel("error (%): training dashed, test solid")
axes[0].set_ylim(0, 80)
plt.show()

# %% [markdown]
# **Question 1.** The deeper plain network contains the shallower one: 36 of its layers could do nothing. Why does
# training not find that solution?

# %% [markdown]
# ## Look inside: take one block out
#
# A residual block computes `x + F(x)`. If `F` is small, the block changes little. We take single blocks out of the
# *trained* networks, without training again, and test them. (Only blocks that keep the shape can be taken out.)

# %%
from resnetlab.data.named import DataSource  # noqa: E402

test = DataSource("digits").load(True).test


def test_error(model: resnetlab.Model, network: nn.Module) -> float:
    """Percent of the test images that the network takes for another digit."""
    with torch.no_grad():
        logits = network(model.preprocessing(test.pixels))
    return 100 * (logits.argmax(1) != test.labels).double().mean().item()


def without_one_block(model: resnetlab.Model) -> list[float]:
    """The test error without each block that keeps the shape, from the first to the last."""
    errors = []
    for stage in ("layer1", "layer2", "layer3"):
        blocks = getattr(model.network, stage)
        for number in range(1 if stage != "layer1" else 0, len(blocks)):  # the first of a stage changes the shape
            network = copy.deepcopy(model.network).eval()
            getattr(network, stage)[number] = nn.Identity()
            errors.append(test_error(model, network))
    return errors


plt.figure(figsize=(7, 3.5))
for name, colour, style in (("cifar_plain56", "#888888", "--"), ("cifar_resnet56", "#d62728", "-")):
    plt.plot(without_one_block(runs[name].model), style, marker="o", markersize=3, color=colour, label=name)
plt.xlabel("block that is taken out")
plt.ylabel("test error (%)")
plt.legend()
plt.show()

# %% [markdown]
# **Question 2.** Which blocks of the residual network matter most? Compare with Figure 7 of the paper, which shows
# how strongly the layers respond.
#
# **Question 3.** Train with shortcut option B (`shortcut="B"`) and compare. Train with several seeds (`seed=1`):
# which of the differences are larger than the spread?
#
# More: `resnetlab reproduce gradients`, `refinement`, `landscape`, and `resnetlab report` for a page of all runs.
