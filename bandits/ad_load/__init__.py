"""Ad-load policies: the file, the distribution it gives to a context, and the draw."""

from bandits.ad_load.act import Action, act
from bandits.ad_load.mixing import draw, lifted, over_allowed, softmax
from bandits.ad_load.models import LinearModel, Tree, TreeModel
from bandits.ad_load.policy import AdLoadPolicy, Estimate, Feature
from bandits.ad_load.policy_file import dump, load
from bandits.ad_load.rules import PolicyError

__all__ = [
    "Action",
    "AdLoadPolicy",
    "Estimate",
    "Feature",
    "LinearModel",
    "PolicyError",
    "Tree",
    "TreeModel",
    "act",
    "draw",
    "dump",
    "lifted",
    "load",
    "over_allowed",
    "softmax",
]
