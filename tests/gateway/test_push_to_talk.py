"""Push to talk: the order is kept, a missing end made up, and the model hears what was meant for it alone."""

from __future__ import annotations

import pytest

from antiphon.session import Limits
from fake_gemini import ANSWER, Conversation
from gateway.extended import extended
from gateway.running import running_gateway
from gateway.talker import Talker

LOUD = b"\x01\x02" * 1600


class Patient:
    """A model that does not detect speech, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.automatic: list[bool] = []

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.begin()
        detection = conversation.setup.realtime_input_config.automatic_activity_detection
        self.automatic.append(not detection.disabled)
        while True:
            message = await conversation.receive()
            realtime = message.realtime_input
            if realtime.HasField("activity_start"):
                self.told.append("start")
            if realtime.audio.data:
                self.told.append("audio")
            if realtime.audio_stream_end:
                self.told.append("stream end")
            if realtime.HasField("activity_end"):
                self.told.append("end")
            if realtime.HasField("activity_end") or realtime.text:
                await conversation.hear("hello")
                await conversation.say("Yes.", ANSWER)
                await conversation.end_turn()


async def press(talker: Talker, chunks: int = 2) -> None:
    await talker.send("activity_start")
    for _ in range(chunks):
        await talker.chunk(LOUD)


class TestTurns:
    async def test_what_is_said_between_the_two_is_answered(self) -> None:
        model = Patient()
        async with running_gateway(model) as gateway, extended(gateway) as talker:
            await talker.start()
            for _ in range(2):
                await press(talker)
                await talker.send("activity_end")
                messages = await talker.until("response_done")
                kinds = [m["type"] for m in messages if m["type"].startswith("speech")]
                assert kinds == ["speech_started", "speech_stopped"]
                await talker.chunk(LOUD)  # which nobody hears
            await talker.end()
            await talker.socket.close()
            await gateway.upstream.idle()
        assert model.told == ["start", "audio", "audio", "end"] * 2
        assert model.automatic == [False]

    async def test_the_button_may_come_before_the_stream(self) -> None:
        model = Patient()
        async with running_gateway(model) as gateway, extended(gateway) as talker:
            await talker.send("activity_start")
            await talker.start()
            await talker.chunk(LOUD)
            await talker.send("activity_end")
            await talker.until("response_done")
        assert model.told == ["start", "audio", "end"]

    async def test_all_that_was_sent_is_heard_at_48_khz(self) -> None:
        heard = 0

        async def counting(conversation: Conversation) -> None:
            nonlocal heard
            await conversation.begin()
            while True:
                message = await conversation.receive()
                if message.realtime_input.HasField("activity_end"):
                    heard = len(conversation.heard)
                    await conversation.say("Yes.", ANSWER)
                    await conversation.end_turn()

        async with running_gateway(counting) as gateway, extended(gateway) as talker:
            await talker.start(48_000)
            await talker.send("activity_start")
            await talker.chunk(bytes(9600 * 3))
            await talker.send("activity_end")
            await talker.until("response_done")
        assert heard == 3200 * 3

    async def test_pressing_interrupts(self) -> None:
        async def slow(conversation: Conversation) -> None:
            await conversation.begin()
            while True:
                message = await conversation.receive()
                if message.realtime_input.text:
                    await conversation.say("A long story", ANSWER * 20)
                if message.realtime_input.HasField("activity_start"):
                    await conversation.say(" goes on", ANSWER)
                    await conversation.send(server_content={"interrupted": True})
                    await conversation.send(server_content={"turn_complete": True})
                if message.realtime_input.HasField("activity_end"):
                    await conversation.say("Answer.", ANSWER)
                    await conversation.end_turn()

        async with running_gateway(slow) as gateway, extended(gateway) as talker:
            await talker.start()
            await talker.send("activity_start")
            await talker.send("activity_end")
            await talker.until("response_done", status="completed")
            await talker.send("command", command="tell")
            await talker.until("audio_response")
            await talker.send("activity_start")
            messages = await talker.until("response_done", status="interrupted")
            assert messages[-2]["reason"] == "activity"
            await talker.send("activity_end")
            messages = await talker.until("response_done", status="completed")
            assert "goes on" not in str(messages)

    async def test_automatic_detection_is_switched_off_in_mid_session(self) -> None:
        model = Patient()
        async with running_gateway(model) as gateway, extended(gateway) as talker:
            await talker.send("command", command="hello")
            await talker.until("response_done")
            await talker.start()
            await press(talker)
            await talker.send("activity_end")
            await talker.until("response_done")
        assert model.automatic == [True, False]
        assert model.told == ["start", "audio", "audio", "end"]


class TestOrder:
    async def test_a_second_start_is_refused_and_the_first_goes_on(self) -> None:
        model = Patient()
        async with running_gateway(model) as gateway, extended(gateway) as talker:
            await talker.start()
            await press(talker)
            await talker.send("activity_start")
            await talker.until("error", code="PROTOCOL_ACTIVITY_ORDER")
            await talker.send("activity_end")
            await talker.until("response_done")
        assert model.told == ["start", "audio", "audio", "end"]

    async def test_an_end_without_a_start_is_refused(self) -> None:
        async with running_gateway(Patient()) as gateway, extended(gateway) as talker:
            await talker.send("activity_end")
            await talker.refused("PROTOCOL_ACTIVITY_ORDER")
            await talker.start()
            await press(talker)
            for _ in range(2):
                await talker.send("activity_end")
            await talker.until("error", code="PROTOCOL_ACTIVITY_ORDER")
            await talker.until("response_done")

    async def test_the_end_of_the_stream_ends_the_activity(self) -> None:
        model = Patient()
        async with running_gateway(model) as gateway, extended(gateway) as talker:
            await talker.start()
            await press(talker)
            await talker.end()
            await talker.until("response_done")
            await talker.send("activity_end")
            await talker.until("error", code="PROTOCOL_ACTIVITY_ORDER")
        assert model.told == ["start", "audio", "audio", "end"]

    @pytest.mark.parametrize("cut", [False, True])
    async def test_a_client_that_is_gone_has_released_the_button(self, *, cut: bool) -> None:
        model = Patient()
        async with running_gateway(model, limits=Limits(resume_s=0)) as gateway:
            async with extended(gateway) as talker:
                await talker.start()
                await press(talker)
                await talker.send("ping", id=1)
                await talker.until("pong")
                while model.told != ["start", "audio", "audio"]:
                    await talker.during(0.01)
                if cut:
                    talker.socket.transport.abort()
            await gateway.upstream.idle()
        assert model.told == ["start", "audio", "audio", "end"]
