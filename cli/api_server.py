"""Runs the API of `orchestrator up`: `python -m cli.api_server --host HOST --port PORT`.

uvicorn's own command would add the working directory to the import path. A user's folder there,
named `api` or `shared`, would hide the project's package.
"""

import argparse

import uvicorn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        "api.main:app",
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
