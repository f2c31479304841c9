"""Lists what can be read already but has no effect yet, so that it is refused."""

NOT_YET = {"adaptive"}
