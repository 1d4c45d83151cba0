"""The model behind the examples: it greets who speaks, counts when told to, and calls tools."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from fake_gemini import ANSWER, Conversation

SECOND: Final = b"\x01\x02" * 24_000
GREETING: Final = "General greeting."

CALLS: Final[dict[str, dict[str, Any]]] = {
    "switch the light in the kitchen": {"name": "light", "args": {"room": "kitchen"}},
    "switch the light in the cellar": {"name": "light", "args": {"room": "cellar"}},
    "order tea": {"name": "order", "args": {"item": "tea"}},
    "order gin": {"name": "order", "args": {"item": "gin"}},
    "what is the weather in Rome": {"name": "weather", "args": {"city": "Rome"}},
    "what is the weather in Ulm": {"name": "weather", "args": {"city": "Ulm"}},
}


class Heard(NamedTuple):
    """A spoken turn: 16 kHz mono PCM16."""

    pcm: bytes
    push_to_talk: bool


class Model:
    """Notes what it hears, over all conversations. Each turn costs 10 tokens to ask and 5 to answer."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.begin()
        detection = conversation.setup.realtime_input_config.automatic_activity_detection
        turns = 0
        while True:
            message = await conversation.receive()
            realtime, results = message.realtime_input, message.tool_response.function_responses
            if realtime.audio_stream_end or realtime.HasField("activity_end"):
                self.heard.append(Heard(bytes(conversation.heard), detection.disabled))
                conversation.heard.clear()
                await conversation.hear(" hello")
                await conversation.hear(" there")
                await conversation.say(GREETING, ANSWER)
            elif realtime.text in CALLS:
                call = {"id": f"c{len(conversation.texts)}", **CALLS[realtime.text]}
                await conversation.send(tool_call={"function_calls": [call]})
                continue
            elif realtime.text == "count":
                for number in range(10):
                    await conversation.say(f" {number}", SECOND)
            elif realtime.text:
                await conversation.say(GREETING, ANSWER)
            elif results:
                await conversation.say(json.dumps(dict(results[0].response)), ANSWER)
            else:
                continue
            turns += 1
            counts = {"prompt_token_count": 10, "response_token_count": 5, "total_token_count": 15}
            await conversation.send(usage_metadata={name: count * turns for name, count in counts.items()})
            await conversation.end_turn()
