"""Defines the entry point of the API: `uvicorn api.main:app`."""

import resource
import sys

from api.app import create_app
from api.server.uvicorn_protocol import adapt_uvicorn
from shared.logs import configure_logging
from shared.process_memory import return_large_blocks, skip_startup_objects
from shared.settings import SettingsError, load_settings
from shared.settings.providers import load_providers
from shared.settings.unknown_settings import log_unknown_settings

return_large_blocks()
try:
    _settings = load_settings()
    configure_logging(_settings.log_level)
    _providers = load_providers(_settings)
    log_unknown_settings(_providers.catalogue.rows)
    app = create_app(_settings, _providers.catalogue, _providers.settings)
    adapt_uvicorn(_settings.keep_alive_seconds)
except SettingsError as error:
    sys.exit(f"wrong settings\n{error}")
# Each stream holds a file descriptor, and 1,000 streams need more than the usual soft limit.
_, _hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard_limit, _hard_limit))
skip_startup_objects()
