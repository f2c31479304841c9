"""Submits jobs to workers, and waits for calls and results."""

from cli.simulator import Simulator
from shared.jobs.new_item import native_items
from shared.jobs.service import Jobs
from shared.jobs.submission import Submission
from shared.models import Job, LLMRequest, Message, Role
from support.results import whole_job
from support.stack import eventually

SUBMISSION = Submission()


async def submit(
    jobs: Jobs, count: int, *, provider: str = "openrouter", model: str = "m", text: str = ""
) -> str:
    job_id = jobs.new_id()
    requests = [
        LLMRequest(
            provider=provider,
            model=model,
            messages=[Message(role=Role.USER, content=f"{job_id} {index}{text}")],
        )
        for index in range(count)
    ]
    return await jobs.submit(job_id, native_items(requests), SUBMISSION)


async def finished(jobs: Jobs, job_id: str) -> Job:
    async def is_finished() -> bool:
        return (await jobs.get(job_id)).has_ended

    await eventually(is_finished)
    return whole_job(await jobs.get(job_id))


async def calls_in_flight(simulator: Simulator, count: int) -> None:
    async def reached() -> bool:
        return bool(simulator.stats()["in_flight"] == count)

    await eventually(reached, deadline_s=15)  # a call would time out after 30 s
