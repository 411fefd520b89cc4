"""How a program calls a model: the same call in four tongues, with a variable where the key belongs."""

from dataclasses import dataclass

from accounts.models import ApiKey

VARIABLE = "MODELPORT_API_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """`needs` is what to install first, as one line for a shell."""

    language: str
    text: str
    needs: str = ""


def of(model: str, *, base_url: str, key: str = "") -> list[Snippet]:
    """Against `base_url`, which ends in /v1. `key` says in words which key the variable holds: of a team's own
    naming, so it stands on one line of a comment."""
    which = " ".join(key.split()) or "make one on the Keys page"
    return [
        Snippet("curl", _curl(model, base_url, which)),
        Snippet("Python", _python(model, base_url, which), needs="pip install openai"),
        Snippet("JavaScript", _javascript(model, base_url, which), needs="npm install openai"),
        Snippet("Anthropic SDK", _anthropic(model, base_url, which), needs="pip install anthropic"),
    ]


def words_of(key: ApiKey | None) -> str:
    """Which key an example means; its text is never shown again, so it is named."""
    return f'your key "{key.name}" ({key.prefix}...)' if key else ""


def _curl(model: str, base_url: str, which: str) -> str:
    return f"""# {VARIABLE}: {which}
curl {base_url}/chat/completions \\
  -H "Authorization: Bearer ${VARIABLE}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""


def _python(model: str, base_url: str, which: str) -> str:
    return f"""import os
from openai import OpenAI

client = OpenAI(
    base_url="{base_url}",
    api_key=os.environ["{VARIABLE}"],  # {which}
)
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)"""


def _javascript(model: str, base_url: str, which: str) -> str:
    return f"""import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{base_url}",
  apiKey: process.env.{VARIABLE}, // {which}
}});
const answer = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(answer.choices[0].message.content);"""


def _anthropic(model: str, base_url: str, which: str) -> str:
    return f"""import os
from anthropic import Anthropic

client = Anthropic(
    base_url="{base_url.removesuffix("/v1")}",
    api_key=os.environ["{VARIABLE}"],  # {which}
)
answer = client.messages.create(
    model="{model}",
    max_tokens=256,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.content[0].text)"""
