"""Reports an expected error at the start as one line, instead of a traceback."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StartupErrorsMiddleware:
    """Makes the server print only the text of an error if its type is in `expected`.

    Starlette gives the server a traceback, which hides the line that says what to do.
    """

    def __init__(self, app: ASGIApp, *, expected: tuple[type[Exception], ...]) -> None:
        self.app = app
        self._expected = expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self.app(scope, receive, send)
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_failure)
        except self._expected as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        except BaseException:
            if failure:
                await send(failure)
            raise
