"""OpenAI's SDK as any application uses it; nothing but `base_url` (OPENAI_BASE_URL) tells it that a router answers.

The model behind is small and says what it likes: structure is asserted, never words.
"""

import asyncio
import json
import math
import os
import sys
import time

import openai
import pydantic

client = openai.OpenAI(api_key="unused", max_retries=0, timeout=120)

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked_about(city):
    return {"role": "user", "content": f"What is the weather in {city}?"}


def answered_with_a_call(call_id, city):
    """A turn that called the tool, its result, and what was said then: two of these and the model does it a third time."""
    arguments = json.dumps({"city": city})
    call = {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "12 C, rain"},
        {"role": "assistant", "content": "12 degrees and rain."},
    ]


TOOL_TALK = [
    asked_about("Oslo"),
    *answered_with_a_call("call_1", "Oslo"),
    asked_about("Paris"),
    *answered_with_a_call("call_2", "Paris"),
    asked_about("Rome"),
]


class Capital(pydantic.BaseModel):
    country: str = pydantic.Field(max_length=20)
    capital: str = pydantic.Field(max_length=20)


def check_usage(usage, completion_at_most):
    assert usage.prompt_tokens > 0, usage
    assert 0 < usage.completion_tokens <= completion_at_most, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def models():
    names = [model.id for model in client.models.list()]
    for name in ["auto", "talk", "general", "brief", "embedder"]:
        assert name in names, names
    assert client.models.retrieve("general").id == "general"


def chat():
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=QUESTION, max_tokens=12, temperature=0)
    assert raw.headers["x-expert-router-expert"] in ("general", "brief"), raw.headers
    assert raw.headers["x-expert-router-reason"], raw.headers
    assert raw.headers["x-expert-router-request-id"], raw.headers
    assert float(raw.headers["x-expert-router-decision-ms"]) >= 0, raw.headers
    answer = raw.parse()
    assert answer.object == "chat.completion", answer
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    check_usage(answer.usage, 12)


def chat_pinned():
    raw = client.chat.completions.with_raw_response.create(model="general", messages=QUESTION, max_tokens=4)
    assert raw.headers["x-expert-router-expert"] == "general", raw.headers
    alone = raw.parse().usage.prompt_tokens
    raw = client.chat.completions.with_raw_response.create(model="brief", messages=QUESTION, max_tokens=50)
    assert raw.headers["x-expert-router-expert"] == "brief", raw.headers
    answer = raw.parse()
    # The expert's own messages are read before ours, and its `max_tokens` holds.
    assert answer.usage.prompt_tokens > alone + 20, (answer.usage, alone)
    check_usage(answer.usage, 6)


def chat_stream():
    chunks = list(client.chat.completions.create(model="auto", messages=QUESTION, max_tokens=12, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text, chunks
    assert chunks[-1].choices[0].finish_reason in ("stop", "length"), chunks[-1]
    # Nobody asked for usage here, so no chunk without choices may be left.
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks


def chat_stream_with_usage():
    options = {"include_usage": True}
    stream = client.chat.completions.create(model="auto", messages=QUESTION, max_tokens=12, stream=True, stream_options=options)
    chunks = list(stream)
    assert chunks[-1].choices == [], chunks[-1]
    check_usage(chunks[-1].usage, 12)
    assert all(chunk.usage is None for chunk in chunks[:-1]), chunks


def chat_stream_left_early():
    with client.chat.completions.create(model="general", messages=QUESTION, max_tokens=400, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    # The connection is usable again, or replaced, and says so by an answer.
    assert client.chat.completions.create(model="general", messages=QUESTION, max_tokens=2).choices


def chat_asynchronous():
    async def ask():
        async with openai.AsyncOpenAI(api_key="unused", max_retries=0, timeout=120) as asynchronous:
            create = asynchronous.chat.completions.create
            return await asyncio.gather(*(create(model="auto", messages=QUESTION, max_tokens=n) for n in (2, 3, 4)))

    for most, answer in zip((2, 3, 4), asyncio.run(ask())):
        check_usage(answer.usage, most)


def chat_content_parts():
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France? Caf\u00e9 \U0001f600"}]
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": parts}], max_tokens=4)
    check_usage(answer.usage, 4)


def chat_log_probabilities_and_choices():
    answer = client.chat.completions.create(
        model="auto", messages=QUESTION, max_tokens=3, n=2, logprobs=True, top_logprobs=2, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1], answer
    for choice in answer.choices:
        assert choice.logprobs.content, choice
        for token in choice.logprobs.content:
            assert token.logprob <= 0 and len(token.top_logprobs) == 2, token


def check_call(call):
    assert call.function.name == "weather", call
    assert isinstance(json.loads(call.function.arguments)["city"], str), call


def tools():
    answer = client.chat.completions.create(
        model="auto", messages=TOOL_TALK, tools=[WEATHER], tool_choice="required", max_tokens=80, temperature=0
    )
    assert answer.choices[0].finish_reason == "tool_calls", answer
    message = answer.choices[0].message
    check_call(message.tool_calls[0])
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "20 C, sun"}
    answer = client.chat.completions.create(
        model="auto", messages=[*TOOL_TALK, message, result], tools=[WEATHER], tool_choice="auto", max_tokens=12, temperature=0
    )
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls, answer


def tools_stream():
    stream = client.chat.completions.create(
        model="auto", messages=TOOL_TALK, tools=[WEATHER], tool_choice="required", max_tokens=80, temperature=0, stream=True
    )
    name, arguments, reason = "", "", None
    for chunk in stream:
        reason = chunk.choices[0].finish_reason or reason
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert reason == "tool_calls", reason
    assert name == "weather" and "city" in json.loads(arguments), (name, arguments)


def json_schema():
    answer = client.chat.completions.parse(
        model="auto", messages=QUESTION, response_format=Capital, max_tokens=120, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Capital), answer


def json_schema_stream():
    """By the SDK's own accumulating helper, which is strict about what a chunk looks like."""
    asked = {"model": "auto", "messages": QUESTION, "response_format": Capital, "max_tokens": 120, "temperature": 0}
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert isinstance(answer.choices[0].message.parsed, Capital), answer


def json_object():
    messages = [{"role": "user", "content": "Give the capital of France as JSON."}]
    answer = client.chat.completions.create(
        model="auto", messages=messages, response_format={"type": "json_object"}, stop=["}"], max_tokens=40, temperature=0
    )
    assert answer.choices[0].message.content.lstrip().startswith("{"), answer


def completions():
    answer = client.completions.create(model="auto", prompt="The capital of France is", max_tokens=6, temperature=0)
    assert answer.object == "text_completion" and answer.choices[0].text, answer
    check_usage(answer.usage, 6)
    answer = client.completions.create(model="auto", prompt=["One, two,", "Monday, Tuesday,"], max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1], answer


def completions_stream():
    chunks = list(client.completions.create(model="auto", prompt="One, two, three,", max_tokens=6, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks), chunks
    assert all(chunk.usage is None for chunk in chunks), chunks


def responses():
    raw = client.responses.with_raw_response.create(
        model="auto", instructions="Answer in a word.", input="What is the capital of France?", max_output_tokens=12
    )
    assert raw.headers["x-expert-router-expert"], raw.headers
    answer = raw.parse()
    assert answer.object == "response" and answer.output_text, answer
    assert answer.usage.input_tokens > 0 and 0 < answer.usage.output_tokens <= 12, answer.usage
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]
    assert client.responses.create(model="brief", input=items, max_output_tokens=6).output, "no output"


def responses_stream():
    events = list(client.responses.create(model="auto", input="Say hello.", max_output_tokens=12, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta"), kinds
    assert events[-1].response.usage.output_tokens > 0, events[-1]


def embeddings():
    texts = ["a cat sits on the mat", "a cat sits on a mat", "the price of oil fell"]
    # The SDK asks for base64 on its own; floats are asked for here, and both must be the same vectors.
    encoded = client.embeddings.create(model="embedder", input=texts)
    plain = client.embeddings.create(model="embedder", input=texts, encoding_format="float")
    assert [item.index for item in plain.data] == [0, 1, 2], plain.data
    vectors = [item.embedding for item in plain.data]
    assert len({len(vector) for vector in vectors}) == 1 and len(vectors[0]) == 576, [len(vector) for vector in vectors]
    assert math.dist(vectors[0], encoded.data[0].embedding) < 0.01
    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])
    assert encoded.usage.prompt_tokens > 0, encoded.usage


def refused(kind, call, param=None):
    try:
        answer = call()
    except openai.APIStatusError as error:
        assert type(error) is kind, (kind, error)
        assert error.body["message"] and error.body["type"], error.body
        assert param is None or error.param == param, error.body
    else:
        raise AssertionError(f"expected {kind.__name__}, got {answer}")


def errors():
    create = client.chat.completions.create
    refused(openai.NotFoundError, lambda: create(model="no-such-model", messages=QUESTION), "model")
    refused(openai.BadRequestError, lambda: create(model="auto", messages=[]), "messages")
    wrong = [{"role": "user", "content": 5}]
    refused(openai.BadRequestError, lambda: create(model="auto", messages=wrong), "messages[0].content")
    refused(openai.BadRequestError, lambda: create(model="auto", messages=QUESTION, max_tokens="many"), "max_tokens")
    refused(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))
    refused(openai.NotFoundError, lambda: client.post("/no/such/path", cast_to=object, body={}))


def main():
    print(f"openai {openai.__version__} at {os.environ['OPENAI_BASE_URL']}", flush=True)
    # No JSON schema with `responses`: llama.cpp's server does not read `text.format`.
    cases = [
        models, chat, chat_pinned, chat_stream, chat_stream_with_usage, chat_stream_left_early, chat_asynchronous, chat_content_parts,
        chat_log_probabilities_and_choices, tools, tools_stream, json_schema, json_schema_stream, json_object, completions,
        completions_stream, responses, responses_stream, embeddings, errors,
    ]
    wanted = sys.argv[1:]
    for case in cases:
        if not wanted or case.__name__ in wanted:
            started = time.monotonic()
            print(f"{case.__name__} ...", flush=True)
            case()
            print(f"{case.__name__} ok, {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
