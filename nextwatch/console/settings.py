"""Define the settings of the console, read from ``NEXTWATCH_CONSOLE_*``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contract.process.settings import PREFIX, Settings

DEFAULT_PORT = 8090


class ConsoleSettings(Settings):
    """Where the console listens: on loopback alone, since whoever reaches it may do everything."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "CONSOLE_")

    port: int = Field(
        default=DEFAULT_PORT, ge=1, le=65_535, description="the port to listen on, of 127.0.0.1"
    )
    erase_within_s: float = Field(
        default=30.0, gt=0, le=600, description="how long a worker may take to erase a user"
    )
