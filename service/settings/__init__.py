"""The configuration: one file, the environment and flags, every key with a default, a rule and a meaning."""

from service.settings.keys import Entries, Key, members
from service.settings.load import Loaded, load
from service.settings.rows import Row, rows
from service.settings.schema import (
    DistributedSettings,
    KeySettings,
    ReceiptSettings,
    ServerSettings,
    Settings,
)
from service.settings.show import SettingsError, toml
from service.settings.surface import (
    AdLoadSettings,
    ContextSettings,
    DiagLinUCBSettings,
    RecoveringSettings,
    RewardSettings,
    SamplerSettings,
    SurfaceSettings,
    reward_scale,
)
from service.settings.unserved import unserved

__all__ = [
    "AdLoadSettings",
    "ContextSettings",
    "DiagLinUCBSettings",
    "DistributedSettings",
    "Entries",
    "Key",
    "KeySettings",
    "Loaded",
    "ReceiptSettings",
    "RecoveringSettings",
    "RewardSettings",
    "Row",
    "SamplerSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "SurfaceSettings",
    "load",
    "members",
    "reward_scale",
    "rows",
    "toml",
    "unserved",
]
