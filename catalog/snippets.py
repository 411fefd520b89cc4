"""How a program calls a model: the same call in three tongues."""


def of(model: str, *, base_url: str) -> list[tuple[str, str]]:
    """(language, code) with the real base URL; the key comes from the environment."""
    return [
        (
            "curl",
            f"""curl {base_url}/chat/completions \\
  -H "Authorization: Bearer $MODELPORT_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'""",
        ),
        (
            "Python",
            f"""import os
from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key=os.environ["MODELPORT_API_KEY"])
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)""",
        ),
        (
            "JavaScript",
            f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: "{base_url}", apiKey: process.env.MODELPORT_API_KEY }});
const answer = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(answer.choices[0].message.content);""",
        ),
    ]
