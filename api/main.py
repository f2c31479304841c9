"""`uvicorn api.main:app`."""

import sys

from api.app import create_app
from shared.logs import configure_logging
from shared.settings import SettingsError, load_settings

try:
    _settings = load_settings()
except SettingsError as error:
    sys.exit(f"wrong settings\n{error}")
configure_logging(_settings.log_level)
app = create_app(_settings)
