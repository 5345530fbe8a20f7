"""Define the settings of the history window, shared by serving and training."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contract.process.settings import PREFIX, Settings
from models.history.history import DAY_MS, WindowPolicy


class WindowSettings(Settings):
    """The bounds of every history window, the same in streams and trainer."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "WINDOW_")

    max_watches: int = Field(default=50, ge=1, le=300)
    max_searches: int = Field(default=20, ge=1, le=28)
    max_age_days: int = Field(default=30, ge=1, le=3_650)
    max_impressions: int = Field(
        default=24,
        ge=0,
        le=32,
        description="events of `impressions` that streams keeps; 0: being shown costs no place",
    )

    @property
    def policy(self) -> WindowPolicy:
        """The bounds as the argument of `models.history.history`."""
        return WindowPolicy(
            self.max_watches, self.max_searches, self.max_age_days * DAY_MS, self.max_impressions
        )
