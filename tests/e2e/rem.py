"""The REM sidecar as an assistant meets it: the official MCP client lists and calls the tools, and a loop of the OpenAI SDK lets a
model (the simulated one) call them through the proxy.

    rem.py DATA REM      base URLs of the data plane and of the sidecar, as in http://127.0.0.1:8080
"""

import asyncio
import json
import sys
import urllib.request

import httpx2
import openai
from mcp import Client, ClientSession
from mcp.client.streamable_http import streamable_http_client

DATA, REM = sys.argv[1:3]
MINE, THEIRS = "sk-mine", "sk-theirs"


def post(path, key, body):
    request = urllib.request.Request(
        REM + path,
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request, timeout=60))


def stream(key):
    client = httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60)
    return streamable_http_client(REM + "/rem/mcp", http_client=client)


async def tools_of(session):
    """What the model is offered: the tools as the server describes them."""
    listed = await session.list_tools()
    names = [tool.name for tool in listed.tools]
    assert names == ["rem_query", "rem_batch", "rem_schema"], names
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema},
        }
        for tool in listed.tools
    ]


async def loop(session, question):
    """A tool-call loop as applications have it: until the model answers without calling anything."""
    model = openai.AsyncOpenAI(base_url=DATA + "/v1", api_key=MINE)
    tools, messages, called = await tools_of(session), [{"role": "user", "content": question}], []
    for _ in range(5):
        told = await model.chat.completions.create(model="sim", messages=messages, tools=tools)
        message = told.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return called, message.content
        for call in message.tool_calls:
            result = await session.call_tool(call.function.name, json.loads(call.function.arguments))
            called.append((call.function.name, result))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result.content[0].text})
    raise AssertionError("the model never came to an end")


async def main():
    post("/rem/v1/entities", MINE, {"name": "Sarah Chen", "kind": "person", "description": "VP Engineering"})
    plan = {
        "name": "project-plan",
        "content": "Who owns the semantic cache",
        "graph_edges": [{"target": "Sarah Chen", "type": "owned_by"}],
    }
    post("/rem/v1/resources", MINE, plan)

    async with stream(MINE) as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        found = await session.call_tool("rem_query", {"query": "FUZZY 'sara chen' IN entities"})
        assert not found.is_error, found
        assert [row["name"] for row in found.structured_content["results"]] == ["Sarah Chen"], found
        stages = [
            {"name": "a", "query": "LOOKUP project-plan"},
            {"name": "b", "query": "TRAVERSE WITH $a DEPTH 1"},
        ]
        walked = await session.call_tool("rem_batch", {"stages": stages})
        names = [row["name"] for row in walked.structured_content["stages"][1]["answer"]["results"]]
        assert names == ["project-plan", "Sarah Chen"], walked
        wrong = await session.call_tool("rem_query", {"query": "hello world"})
        assert wrong.is_error and wrong.structured_content["code"] == "parse_error", wrong
        assert wrong.structured_content["hint"] and wrong.structured_content["position"] == 0, wrong
        called, answer = await loop(session, "Use rem_schema and tell me what there is")
        assert [name for name, _ in called] == ["rem_schema"], called
        assert called[0][1].structured_content["tables"], called
        assert answer, "the model answers in the end"
        # The simulated model calls a tool with what the prompt says, and repeats what the tool said.
        wish = json.dumps({"query": "TRAVERSE project-plan TYPE owned_by"})
        called, answer = await loop(session, f"Whose is the plan? Use rem_query {wish}")
        assert [name for name, _ in called] == ["rem_query"], called
        assert [row["name"] for row in called[0][1].structured_content["results"]] == ["project-plan", "Sarah Chen"], called
        assert "Sarah Chen" in answer, answer

    # The newest form of the protocol, and another caller: nothing of the first is there.
    async with Client(stream(THEIRS)) as session:
        await tools_of(session)
        none = await session.call_tool("rem_query", {"query": "LOOKUP 'Sarah Chen', project-plan"})
        assert none.structured_content["count"] == 0, none
        assert none.structured_content["suggestions"] == [], none
    print("the sidecar serves the official MCP client and a tool-call loop of the OpenAI SDK")


asyncio.run(main())
