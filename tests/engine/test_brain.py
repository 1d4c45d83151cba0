"""A brain behind a chat API, over real HTTP on loopback."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from antiphon.engine import brain as module
from antiphon.engine.brain import Brain, BrainFailed, base_url, is_near
from antiphon.engine.chat import Question, Wanted
from loopback_brain import ChatServer, Reply, Script, calls, chat_server, refuses, says

QUESTION = Question(({"role": "user", "content": "How are you?"},))


@asynccontextmanager
async def asked(*scripts: Script, model: str = "m", key: str = "") -> AsyncIterator[tuple[ChatServer, Brain]]:
    async with chat_server(*scripts) as server, Brain(server.url, model, key) as brain:
        yield server, brain
    gc.collect()


async def thinks(brain: Brain, question: Question = QUESTION) -> tuple[list[str], tuple[Wanted, ...]]:
    said: list[str] = []
    async with asyncio.timeout(10):
        return said, await brain.think(question, said.append)


async def fails(brain: Brain) -> str:
    with pytest.raises(BrainFailed) as failed:
        await thinks(brain)
    return str(failed.value)


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_REST_S", 0.0)


async def test_it_is_asked_as_the_api_wants_and_its_sentences_come_as_they_are_made() -> None:
    go_on = asyncio.Event()

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content="I am **well**. And")
        await go_on.wait()
        await reply.delta(content=" you?")
        await reply.event("[DONE]")
        await reply.end()

    tools = ({"type": "function", "function": {"name": "next"}},)
    said: list[str] = []
    async with asked(script, key="secret") as (server, brain):
        first = asyncio.Event()

        def say(sentence: str) -> None:
            said.append(sentence)
            first.set()

        thinking = asyncio.create_task(brain.think(Question(QUESTION.messages, tools), say))
        async with asyncio.timeout(10):
            await first.wait()
        assert said == ["I am well."]
        go_on.set()
        assert await thinking == ()
    assert said == ["I am well.", "And you?"]
    assert server.asked == [
        {"model": "m", "messages": list(QUESTION.messages), "stream": True, "tools": list(tools)}
    ]
    (head,) = server.heads
    assert head.startswith("POST /v1/chat/completions ")
    assert "authorization: Bearer secret\r\n" in head.replace("Authorization", "authorization")


async def test_the_model_is_the_first_that_the_server_lists() -> None:
    async with asked(says("Fine."), model="") as (server, brain):
        await thinks(brain)
        await thinks(brain)
    assert [one["model"] for one in server.asked] == ["small", "small"]
    assert [head.split()[1] for head in server.heads] == ["/v1/models", *["/v1/chat/completions"] * 2]


@pytest.mark.usefixtures("no_rest")
async def test_after_a_failure_the_models_are_asked_for_again() -> None:
    async with asked(refuses("404 Not Found"), says("Fine."), model="") as (server, brain):
        await fails(brain)
        server.models = refuses("200 OK", '{"data": [{"id": "new"}]}')
        await thinks(brain)
    assert [one["model"] for one in server.asked] == ["small", "new"]


@pytest.mark.parametrize("listed", ['{"data": []}', "[]", "no JSON", '{"data": [{}]}'])
@pytest.mark.usefixtures("no_rest")
async def test_a_server_without_models_is_told_of(listed: str) -> None:
    async with asked(says("Fine."), model="") as (server, brain):
        server.models = refuses("200 OK", listed)
        assert await fails(brain) == "it lists no model; name one with --brain-model"
        server.models = refuses("401 Unauthorized", '{"error": {"message": "Who are you?"}}')
        assert await fails(brain) == "asked for its models, it answers with status 401: Who are you?"
    assert server.asked == []


async def test_calls_come_at_the_end() -> None:
    async with asked(calls(("next", "{}"), ("go", '{"n": 3}'), text="Well. ")) as (_, brain):
        assert await thinks(brain) == (
            ["Well."],
            (Wanted("id0", "next", "{}"), Wanted("id1", "go", '{"n": 3}')),
        )


async def test_an_answer_that_comes_at_once_is_taken_too() -> None:
    body = '{"choices": [{"message": {"role": "assistant", "content": "One. Two."}}]}'
    async with asked(refuses("200 OK", body)) as (_, brain):
        assert await thinks(brain) == (["One.", "Two."], ())


async def test_signs_of_life_line_ends_and_a_missing_end_are_put_up_with() -> None:
    async def script(reply: Reply) -> None:
        await reply.head()
        for piece in (": keep-alive\r\n\r\n", 'data:{"choices":', "[]}\r\n\r\nevent: x\r\n", "data: "):
            await reply.chunk(piece)
        await reply.chunk('{"choices": [{"delta": {"content": "Fine."}}]}')
        await reply.end()

    async with asked(script) as (_, brain):
        assert await thinks(brain) == (["Fine."], ())


async def test_cancelled_it_leaves_the_server_at_once() -> None:
    async def script(reply: Reply) -> None:
        await reply.head()
        while True:
            await reply.delta(content="On and on. ")
            await asyncio.sleep(0.001)

    async with asked(script) as (server, brain):
        begun = asyncio.Event()
        thinking = asyncio.create_task(brain.think(QUESTION, lambda _: begun.set()))
        async with asyncio.timeout(10):
            await begun.wait()
            thinking.cancel()
            await asyncio.wait([thinking])
            await server.left.wait()
        assert thinking.cancelled()


async def test_of_an_answer_without_end_a_minute_is_taken() -> None:
    async def script(reply: Reply) -> None:
        await reply.head()
        while True:
            await reply.delta(content="On and on. ")

    async with asked(script) as (server, brain):
        said, _ = await thinks(brain)
        async with asyncio.timeout(10):
            await server.left.wait()
    assert 980 <= sum(map(len, said)) <= 1_000


async def _cut(reply: Reply) -> None:
    await reply.head()
    await reply.delta(content="Half")
    raise ConnectionError


async def _silent(reply: Reply) -> None:
    await reply.head()
    while True:
        await reply.chunk(": still here\n\n")
        await asyncio.sleep(0.01)


async def _endless_event(reply: Reply) -> None:
    await reply.head()
    while True:
        await reply.chunk("data: " + "x" * 60_000)


async def _endless_thought(reply: Reply) -> None:
    await reply.head()
    while True:
        await reply.delta(reasoning_content="x" * 60_000)


async def _no_answer(reply: Reply) -> None:
    await reply.raw(b"220 mail.example ESMTP\r\n")
    raise ConnectionError


async def _error(reply: Reply) -> None:
    await reply.head()
    await reply.event({"error": {"message": "out of\nmemory, secret"}})
    await reply.end()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (refuses(), "it answers with status 500: {}"),
        (refuses("404 Not Found", '{"error": "no such model"}'), "it answers with status 404: no such model"),
        (refuses("502 Bad Gateway", "<html>"), "it answers with status 502"),
        (
            refuses("307 Temporary Redirect", more="Location: http://127.0.0.1:9/\r\n"),
            "it answers with status 307: {}",
        ),
        (refuses("200 OK", "<html>"), "its answer is no JSON"),
        (refuses("200 OK", "{}"), "its answer is empty"),
        (says(), "its answer is empty"),
        (says("<think>Only", " thoughts."), "its answer is empty"),
        (says("🙂 ** "), "its answer is empty"),
        (_cut, "it cannot be reached (RemoteProtocolError)"),
        (_no_answer, "it cannot be reached (RemoteProtocolError)"),
        (_error, "it says: out of memory, (key)"),
        (_silent, "it is silent for too long"),
        (_endless_event, "an event is too long"),
        (_endless_thought, "its answer has no end"),
    ],
)
async def test_what_can_go_wrong(script: Script, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if script is _silent:
        monkeypatch.setattr(module, "FIRST_TOKEN_TIMEOUT_S", 0.3)
    async with asked(script, key="secret") as (_, brain):
        assert await fails(brain) == why


async def test_a_brain_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKEN_TIMEOUT_S", 0.1)

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content="Well. I")
        await asyncio.sleep(60)

    async with asked(script) as (server, brain):
        said: list[str] = []
        async with asyncio.timeout(5):
            with pytest.raises(BrainFailed, match="silent"):
                await brain.think(QUESTION, said.append)
            await server.left.wait()
    assert said == ["Well."]


async def test_a_brain_that_failed_rests_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "antiphon.engine.brain")
    async with asked(refuses(), says("Fine.")) as (server, brain):
        assert "500" in await fails(brain)
        assert await fails(brain) == "it failed a moment ago"
        assert len(server.asked) == 1
        brain._rest_until = 0.0
        assert await thinks(brain) == (["Fine."], ())
        assert await thinks(brain) == (["Fine."], ())
    assert [record.getMessage() for record in caplog.records] == [
        f"The brain at {server.url} fails: it answers with status 500: {{}}. "
        "The built-in answers take its place.",
        f"The brain at {server.url} answers again.",
    ]


@pytest.mark.usefixtures("no_rest")
async def test_of_failures_in_a_row_the_first_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with asked(refuses()) as (_, brain):
        for _ in range(12):
            await fails(brain)
    assert len(caplog.records) == 1


async def test_the_rest_grows_with_each_failure() -> None:
    now = asyncio.get_running_loop().time
    async with asked(refuses()) as (_, brain):
        rests = []
        for _ in range(6):
            brain._rest_until = 0.0
            await fails(brain)
            rests.append(round(brain._rest_until - now()))
    assert rests == [2, 4, 8, 16, 30, 30]


async def test_it_is_woken_with_one_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "antiphon.engine.brain")

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content="H")
        await asyncio.sleep(60)

    async with asked(script, model="") as (server, brain):
        async with asyncio.timeout(10):
            await brain.wake()
            await server.left.wait()
    assert [record.getMessage() for record in caplog.records] == [
        f"The brain at {server.url} answers (small)."
    ]


async def test_who_cannot_be_woken_is_told_of_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with chat_server() as server:
        url = server.url
    async with Brain(url) as brain:
        await brain.wake()
    assert [record.getMessage() for record in caplog.records] == [
        f"The brain at {url} fails: it cannot be reached (ConnectError). The built-in answers take its place."
    ]


async def test_plaintext_across_a_network_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_near", lambda _: False)
    async with asked(says("Hi.")) as (server, brain):
        await brain.wake()
    assert caplog.messages == [f"What is said goes to the brain at {server.url} in plaintext; use https://."]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        (" http://localhost:8000/v1/ ", "http://localhost:8000/v1"),
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://[::1]:8000/", "http://[::1]:8000/v1"),
        ("https://api.example/openai/chat/completions", "https://api.example/openai"),
    ],
)
def test_the_base_of_the_api(text: str, url: str) -> None:
    assert str(base_url(text)) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ollama", "neither builtin nor"),
        ("", "neither builtin nor"),
        ("ftp://host/v1", "neither builtin nor"),
        ("http:///v1", "neither builtin nor"),
        ("http://host/v1?key=1", "neither builtin nor"),
        ("http://host:no/v1", "neither builtin nor"),
        ("http://me:secret@host/v1", "ANTIPHON_BRAIN_KEY"),
    ],
)
def test_what_is_no_base_of_an_api(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        base_url(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["two words", "kéy", "line\n"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="ANTIPHON_BRAIN_KEY"):
        Brain("http://localhost", key=key)


def test_which_hosts_are_near() -> None:
    near = ("localhost", "127.0.0.1", "::1", "10.0.0.7", "192.168.1.2", "ollama", "box.local")
    assert [host for host in near if not is_near(host)] == []
    assert [host for host in ("api.example.com", "8.8.8.8") if is_near(host)] == []
