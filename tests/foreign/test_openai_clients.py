"""Tests programs of other projects that use OpenAI's API: each with a change of the base URL.

The programs are installed with `CI_DEPTH=full` only, because that takes some minutes.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.foreign_server import installed
from support.openai_deployment import Deployment

pytestmark = pytest.mark.foreign

# LangChain's embeddings send tokens, and would download the tokenizer's vocabulary.
LANGCHAIN = """
import asyncio
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

llm = ChatOpenAI(model="openrouter/m")
print(llm.invoke("hi").content, llm.invoke("hi").usage_metadata["total_tokens"])
print([message.content for message in llm.batch(["a", "b"])])

async def streamed():
    return "".join([chunk.content async for chunk in llm.astream("a b")])

print(asyncio.run(streamed()))
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
print(llm.bind_tools([tool]).invoke('call weather {"city":"Oslo"}').tool_calls[0]["args"])
embeddings = OpenAIEmbeddings(model="openrouter/embed", check_embedding_ctx_length=False)
print(len(embeddings.embed_documents(["a", "b"])))
"""
LLAMA_INDEX = """
import os
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

url = os.environ["OPENAI_BASE_URL"]
llm = OpenAILike(model="openrouter/m", api_base=url, api_key="x", is_chat_model=True)
message = ChatMessage(role="user", content="a b")
print(llm.chat([message]).message.content)
print("".join(part.delta for part in llm.stream_chat([message])))
"""
# The simulator's answers are not of the class, so the batch processor returns them as they are.
INSTRUCTOR = """
import time
import instructor, openai
from instructor.batch import BatchProcessor
from pydantic import BaseModel

class City(BaseModel):
    city: str

client = instructor.from_openai(openai.OpenAI())
messages = [{"role": "user", "content": 'call City {"city":"Oslo"}'}]
asked = {"model": "openrouter/m", "response_model": City, "messages": messages}
print(client.chat.completions.create(**asked))
print(list(client.chat.completions.create_partial(**asked))[-1])

def batch(model):
    processor = BatchProcessor(f"openai/{model}", City)
    chats = [[{"role": "user", "content": text}] for text in ("a", "b")]
    batch_id = processor.submit_batch(processor.create_batch_from_messages(chats))
    while processor.get_batch_status(batch_id)["status"] == "in_progress":
        time.sleep(0.1)
    return processor, batch_id

processor, batch_id = batch("openrouter/m")
for result in processor.get_results(batch_id):
    answer = result.raw_data["response"]["body"]["choices"][0]["message"]["content"]
    print(result.custom_id, answer)
processor, batch_id = batch("openrouter/sim-400")
try:
    processor.get_results(batch_id)
except Exception as error:
    print(str(error).partition("All")[2])
print(sorted(job.request_counts.completed for job in processor.list_batches(limit=2)))
"""
INSPECT_AI = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import BatchConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

for options in ({}, {"batch": BatchConfig(size=2, send_delay=1, tick=1)}):
    samples = [Sample(input=f"hi {number}", target=f"hi {number}") for number in range(2)]
    task = Task(dataset=samples, solver=generate(), scorer=includes())
    [log] = eval(task, model="openai-api/mine/openrouter/m", display="none", **options)
    print(log.status, log.results.scores[0].metrics["accuracy"].value)
"""
CURATOR = """
import os
from bespokelabs import curator

options = {"base_url": os.environ["OPENAI_BASE_URL"], "batch_size": 2, "batch_check_interval": 1}
llm = curator.LLM(model_name="openrouter/m", backend="openai", batch=True, backend_params=options)
print(sorted(llm(["a", "b"], working_dir="work").dataset["response"]))
"""
PROMPTFOO = {
    "prompts": ["say {{word}}"],
    "providers": ["openai:chat:openrouter/m", "openai:chat:openrouter/sim-402"],
    "tests": [{"vars": {"word": "hi"}, "assert": [{"type": "contains", "value": "echo: say hi"}]}],
}


@pytest.fixture(scope="module")
def deployment(valkey_url: str) -> Iterator[Deployment]:
    with Deployment(valkey_url) as running:
        yield running


def environment(deployment: Deployment, directory: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(directory),
        "OPENAI_BASE_URL": deployment.base_url,
        "OPENAI_API_KEY": "x",
        "MINE_BASE_URL": deployment.base_url,
        "MINE_API_KEY": "x",
        "TELEMETRY_ENABLED": "0",
        "CURATOR_DISABLE_CACHE": "1",
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
    }


def run(argv: tuple[str | Path, ...], deployment: Deployment, directory: Path) -> str:
    done = subprocess.run(
        argv,
        cwd=directory,
        env=environment(deployment, directory),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "program", "expected"),
    [
        (
            "langchain",
            LANGCHAIN,
            ["echo: hi 3", "['echo: a', 'echo: b']", "echo: a b", "{'city': 'Oslo'}", "2"],
        ),
        ("llama_index", LLAMA_INDEX, ["echo: a b", "echo: a b"]),
        (
            "instructor",
            INSTRUCTOR,
            [
                *("city='Oslo'", "city='Oslo'", "request-0 echo: a", "request-1 echo: b"),
                " 2 batch requests failed. No output file will be available.",
                "[0, 2]",
            ],
        ),
        ("inspect_ai", INSPECT_AI, ["success 1.0", "success 1.0"]),
        ("curator", CURATOR, ["['echo: a', 'echo: b']"]),
    ],
)
def test_a_python_client(
    deployment: Deployment, tmp_path: Path, name: str, program: str, expected: list[str]
) -> None:
    python = installed(name) / "bin/python"

    output = run((python, "-c", program), deployment, tmp_path)

    shown = [line for line in output.splitlines() if line in expected]
    assert shown == expected, output


def test_promptfoo(deployment: Deployment, tmp_path: Path) -> None:
    """It distinguishes a used-up quota from a rate limit by the error's code."""
    program = installed("promptfoo") / "node_modules/.bin/promptfoo"
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(PROMPTFOO))
    options = ("-c", "promptfooconfig.json", "--no-cache", "--no-table", "-o", "out.json")

    output = run((program, "eval", *options), deployment, tmp_path)

    assert (tmp_path / "out.json").exists(), output
    results = json.loads((tmp_path / "out.json").read_text())["results"]["results"]
    answered, refused = sorted(results, key=lambda result: result["success"], reverse=True)
    assert answered["response"]["output"] == "echo: say hi"
    assert "insufficient_quota" in refused["error"]
