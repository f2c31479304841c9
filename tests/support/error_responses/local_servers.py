"""Lists error responses of vLLM, SGLang, llama.cpp, LM Studio and Ollama."""

from support.error_responses.judgements import TOO_LONG_REQUEST, TRANSIENT, Responses, overloaded

RESPONSES: Responses = {
    "local": [  # vLLM, SGLang, llama.cpp, LM Studio, Ollama
        (
            400,
            {},
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens. However, you"
                " requested 5000 tokens.",
                "type": "BadRequestError",
                "code": 400,
            },
            TOO_LONG_REQUEST,
        ),
        (
            415,
            {},
            {"detail": "Unsupported Media Type: Only 'application/json' is allowed"},
            TRANSIENT,
        ),
        (
            400,
            {},
            {"message": "The input (9 tokens) is longer than the model's context length (8)."},
            TOO_LONG_REQUEST,
        ),
        (503, {}, {"message": "The request queue is full."}, overloaded()),
        (
            503,
            {},
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
            overloaded(),
        ),
        (
            400,
            {},
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_ctx": 4096,
                }
            },
            TOO_LONG_REQUEST,
        ),
        (
            400,
            {},
            {
                "error": "Trying to keep the first 9 tokens when context the overflows. However,"
                " the number of tokens to keep from the initial prompt is greater than the context"
                " length"
            },
            TOO_LONG_REQUEST,
        ),
        (
            503,
            {},
            {"error": "server busy, please try again.  maximum pending requests exceeded"},
            overloaded(),
        ),
        (400, {}, {"error": "the input length exceeds the context length"}, TOO_LONG_REQUEST),
        (500, {}, {"error": "error loading model m"}, TRANSIENT),
        (503, {}, {"error": "model is loading"}, overloaded()),
    ],
}
