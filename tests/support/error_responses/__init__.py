"""Lists the error responses that vendors document or users report, by vendor."""

from support.error_responses import anthropic, any_vendor, gemini, hosts, local_servers, openai

RESPONSES = (
    openai.RESPONSES
    | anthropic.RESPONSES
    | gemini.RESPONSES
    | hosts.RESPONSES
    | local_servers.RESPONSES
    | any_vendor.RESPONSES
)
