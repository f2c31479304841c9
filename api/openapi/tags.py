"""Names the sections of `/docs`, in their order."""

BATCHES = "Batches"
JOBS = "Jobs"
OPENAI = "OpenAI API"
MONITORING = "Monitoring"
HEALTH = "Health"

TAGS = [
    {
        "name": BATCHES,
        "description": "Run up to 100 requests and get their results in the response.",
    },
    {
        "name": JOBS,
        "description": "Submit jobs of any size, follow them, read their results, cancel them and"
        " retry them. Every batch is a job, too.",
    },
    {
        "name": OPENAI,
        "description": "Use OpenAI's clients with every provider: set `base_url` to this server's"
        " address and `/v1`.",
    },
    {
        "name": MONITORING,
        "description": "Read the queues, the workers and the problems of this installation, as JSON"
        " or for Prometheus.",
    },
    {
        "name": HEALTH,
        "description": "Check one process or the installation, for example from a load balancer.",
    },
]
