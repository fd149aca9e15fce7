"""Learning of ad-load policies from logs: the policy that a log can vouch for, or none."""

from offline_eval.learning.learn import Learned, Options, learn
from offline_eval.learning.log import AdLoadLog

__all__ = ["AdLoadLog", "Learned", "Options", "learn"]
