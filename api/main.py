"""`uvicorn api.main:app`."""

import resource
import sys

from api.app import create_app
from shared.logs import configure_logging
from shared.settings import SettingsError, load_settings

try:
    _settings = load_settings()
    configure_logging(_settings.log_level)
    app = create_app(_settings)
except SettingsError as error:
    sys.exit(f"wrong settings\n{error}")
# A stream holds a file: 1,000 of them are more than the usual soft limit.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
