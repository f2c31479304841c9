"""Lists what can be read already but has no effect yet, so that it is refused."""

NOT_YET = {
    "adaptive",
    "api_keys",  # <NAME>_API_KEY_2 and further
    "deployments",  # several of an alias
    "fallbacks",
    "weight",
}
