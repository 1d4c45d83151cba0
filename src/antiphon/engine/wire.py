"""The messages of `BidiGenerateContent` (v1beta): what a client's bytes mean, and what the engine sends.

Raw protobuf classes throughout: a sixth of the time of their proto-plus wrappers.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

from google.ai.generativelanguage_v1beta.types import generative_service
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from msgspec import Struct

from antiphon.engine.memory import Entry
from antiphon.engine.phrases import Function, Grammar, Parameter, phrases_in
from antiphon.engine.playback import RATE_HZ
from antiphon.transcription import Hypothesis, encode
from antiphon.voice_activity import encode as voice_activity_fields

_ClientMessage: Final = generative_service.BidiGenerateContentClientMessage.pb()
_ServerMessage: Final = generative_service.BidiGenerateContentServerMessage.pb()

ServerMessage: TypeAlias = Any
"""A `BidiGenerateContentServerMessage`; the generated classes carry no types."""

MAX_FUNCTIONS: Final = 256
MAX_TEXT_CHARS: Final = 16_000
MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 48_000
_OUTPUT_MIME_TYPE: Final = f"audio/pcm;rate={RATE_HZ}"
_Kind = Literal["string", "number", "integer", "boolean"]
_KIND_NAMES: Final[dict[str, _Kind]] = {kind: kind for kind in get_args(_Kind)}
_KIND_NUMBERS: Final[dict[int, _Kind]] = dict(enumerate(get_args(_Kind), start=1))
_SCHEMA_TYPES: Final[dict[int, str]] = {**_KIND_NUMBERS, 5: "array", 6: "object"}
_NO_INTERRUPTION: Final = 2
_AUDIO_MODALITY: Final = 3
_TEXT_MODALITY_COUNT: Final = 1
_AUDIO_MODALITY_COUNT: Final = 4
_SILENT: Final = 1


class Invalid(Exception):  # noqa: N818 (the status it becomes is called so)
    """A client message that cannot be taken; the text is the sentence for the status."""


# ---- from the client


class Setup(Struct, frozen=True):
    """What a conversation is opened with. `language` is a BCP 47 tag or empty; `handle` resumes another.

    `tools` are the functions as a chat API declares them, with JSON Schema.
    """

    grammar: Grammar
    language: str = ""
    transcribes_input: bool = False
    transcribes_output: bool = False
    detects_activity: bool = True
    interruptible: bool = True
    resumable: bool = False
    handle: str = ""
    tokens: int = 0
    instruction: str = ""
    tools: tuple[dict[str, Any], ...] = ()


class Audio(Struct, frozen=True, gc=False):
    """A piece of the user's voice: mono PCM16."""

    pcm: bytes
    rate_hz: int


class AudioEnded(Struct, frozen=True):
    """The audio stream is over for now."""


class ActivityStarted(Struct, frozen=True):
    """The user begins to speak, says the client."""


class ActivityEnded(Struct, frozen=True):
    """The user has spoken, says the client."""


class Typed(Struct, frozen=True):
    """Text in place of speech."""

    text: str


class Content(Struct, frozen=True):
    """Entries for the history; `complete` asks for an answer."""

    entries: tuple[Entry, ...]
    complete: bool


class ToolResult(Struct, frozen=True):
    """What a function returned."""

    call_id: str
    name: str
    response: dict[str, Any]
    silent: bool
    more_to_come: bool


ClientInput = Setup | Audio | AudioEnded | ActivityStarted | ActivityEnded | Typed | Content | ToolResult


def parse(data: bytes) -> list[ClientInput]:
    """Return what a client message says, in the order it is to be taken.

    Raises:
        Invalid: it is no such message, or says what cannot be.
    """
    try:
        message = _ClientMessage.FromString(data)
    except DecodeError:
        raise Invalid("The message is not a BidiGenerateContentClientMessage.") from None
    match message.WhichOneof("message_type"):
        case "setup":
            return [_setup(message.setup)]
        case "realtime_input":
            return _realtime_input(message.realtime_input)
        case "client_content":
            return [_content(message.client_content)]
        case "tool_response":
            return [_tool_result(response) for response in message.tool_response.function_responses]
        case _:
            raise Invalid(
                "The message holds neither setup, client_content, realtime_input nor tool_response."
            )


def text_tokens(text: str) -> int:
    """Return about how many tokens a text is: one for four characters."""
    return -(-len(text) // 4)


def _setup(setup: Any) -> Setup:
    if not setup.model:
        raise Invalid("setup.model is missing.")
    config = setup.generation_config
    if any(modality != _AUDIO_MODALITY for modality in config.response_modalities):
        raise Invalid("This model answers with audio; set response_modalities to AUDIO or leave it out.")
    realtime = setup.realtime_input_config
    declarations = [one for tool in setup.tools for one in tool.function_declarations]
    functions = [_function(one) for one in declarations]
    names = {function.name for function in functions}
    if len(functions) > MAX_FUNCTIONS:
        raise Invalid(f"At most {MAX_FUNCTIONS} functions can be declared.")
    if len(names) < len(functions):
        raise Invalid("Two functions are declared with one name.")
    try:
        grammar = Grammar(functions)
    except ValueError as error:
        raise Invalid(f"The functions cannot be taken: {error}.") from None
    instruction = "".join(part.text for part in setup.system_instruction.parts)
    return Setup(
        grammar=grammar,
        language=config.speech_config.language_code,
        transcribes_input=setup.HasField("input_audio_transcription"),
        transcribes_output=setup.HasField("output_audio_transcription"),
        detects_activity=not realtime.automatic_activity_detection.disabled,
        interruptible=realtime.activity_handling != _NO_INTERRUPTION,
        resumable=setup.HasField("session_resumption"),
        handle=setup.session_resumption.handle,
        tokens=text_tokens(instruction) + sum(-(-tool.ByteSize() // 4) for tool in setup.tools),
        instruction=instruction,
        tools=tuple(_tool(one) for one in declarations),
    )


def _function(declaration: Any) -> Function:
    if not declaration.name:
        raise Invalid("A function is declared without a name.")
    if declaration.HasField("parameters_json_schema"):
        parameters = _json_schema_parameters(_as_json(declaration.parameters_json_schema))
    else:
        required = frozenset(declaration.parameters.required)
        parameters = {
            name: Parameter(_KIND_NUMBERS.get(schema.type_, "other"), name in required, tuple(schema.enum))
            for name, schema in declaration.parameters.properties.items()
        }
    return Function(declaration.name, phrases_in(declaration.description), parameters)


def _tool(declaration: Any) -> dict[str, Any]:
    """Return a declaration as a chat API takes it."""
    function = {"name": declaration.name, "description": declaration.description}
    if declaration.HasField("parameters_json_schema"):
        function["parameters"] = _as_json(declaration.parameters_json_schema)
    else:
        function["parameters"] = {"type": "object", "properties": {}} | _json_schema(declaration.parameters)
    return {"type": "function", "function": function}


def _json_schema(schema: Any) -> dict[str, Any]:
    """Return a schema of Gemini's as JSON Schema."""
    described: dict[str, Any] = {}
    if kind := _SCHEMA_TYPES.get(schema.type_):
        described["type"] = kind
    if schema.description:
        described["description"] = schema.description
    if schema.enum:
        described["enum"] = list(schema.enum)
    if schema.HasField("items"):
        described["items"] = _json_schema(schema.items)
    if schema.properties:
        described["properties"] = {name: _json_schema(one) for name, one in schema.properties.items()}
    if schema.required:
        described["required"] = list(schema.required)
    return described


def _json_schema_parameters(schema: Any) -> dict[str, Parameter]:
    """Read the part of a JSON Schema that phrases can fill; what is malformed is no parameter."""
    if not isinstance(schema, dict) or not isinstance(properties := schema.get("properties", {}), dict):
        raise Invalid("A function's parameters_json_schema does not describe an object.")
    required = schema.get("required")
    parameters = {}
    for name, described in properties.items():
        kind = described.get("type") if isinstance(described, dict) else None
        choices = described.get("enum") if isinstance(described, dict) else None
        parameters[name] = Parameter(
            _KIND_NAMES.get(kind, "other") if isinstance(kind, str) else "other",
            isinstance(required, list) and name in required,
            tuple(one for one in choices if isinstance(one, str)) if isinstance(choices, list) else (),
        )
    return parameters


def _realtime_input(realtime: Any) -> list[ClientInput]:
    if realtime.media_chunks:
        raise Invalid("realtime_input.media_chunks is no longer supported. Use audio, video or text.")
    if realtime.HasField("video"):
        raise Invalid("This model takes no video.")
    inputs: list[ClientInput] = []
    if realtime.HasField("activity_start"):
        inputs.append(ActivityStarted())
    if realtime.HasField("audio"):
        inputs.append(_audio(realtime.audio))
    if len(realtime.text) > MAX_TEXT_CHARS:
        raise Invalid(f"Text can have at most {MAX_TEXT_CHARS} characters.")
    if realtime.text.strip():
        inputs.append(Typed(realtime.text))
    if realtime.audio_stream_end:
        inputs.append(AudioEnded())
    if realtime.HasField("activity_end"):
        inputs.append(ActivityEnded())
    return inputs


def _audio(blob: Any) -> Audio:
    kind, *parameters = blob.mime_type.lower().split(";")
    values = dict(one.strip().split("=", 1) for one in parameters if "=" in one)
    if kind.strip() != "audio/pcm" or values.get("channels", "1") != "1":
        raise Invalid("Audio must be mono with the MIME type audio/pcm;rate=16000.")
    rate = values.get("rate", "16000")
    if not (rate.isascii() and rate.isdigit() and len(rate) <= 5 and MIN_RATE_HZ <= int(rate) <= MAX_RATE_HZ):
        raise Invalid(f"Audio must have a rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz.")
    if not blob.data or len(blob.data) % 2:
        raise Invalid("Audio must be whole samples of 16 bits, at least one.")
    return Audio(blob.data, int(rate))


def _content(content: Any) -> Content:
    entries = []
    for turn in content.turns:
        if turn.role not in ("", "user", "model"):
            raise Invalid("The role of a turn must be user or model.")
        if text := "\n".join(part.text for part in turn.parts).strip():
            entries.append(Entry("model" if turn.role == "model" else "user", text))
    return Content(tuple(entries), content.turn_complete)


def _tool_result(response: Any) -> ToolResult:
    return ToolResult(
        response.id,
        response.name,
        _as_json(response.response),
        response.scheduling == _SILENT,
        response.will_continue,
    )


def _as_json(message: Message) -> Any:
    try:
        return json_format.MessageToDict(message)
    except (json_format.Error, ValueError):
        raise Invalid("A value is not JSON: numbers must be finite.") from None


# ---- to the client


class Usage(Struct):
    """Tokens used on one connection, by what they are for."""

    text_in: int = 0
    audio_in: int = 0
    text_out: int = 0
    audio_out: int = 0


def setup_complete() -> ServerMessage:
    """Answer the setup."""
    message = _ServerMessage()
    message.setup_complete.SetInParent()
    return message


def heard(text: str, hypothesis: Hypothesis) -> ServerMessage:
    """Send a piece of what the user says: a delta, and beside it, for who can read it, the whole."""
    message = _ServerMessage()
    transcription = message.server_content.input_transcription
    transcription.text = text
    transcription.MergeFromString(encode(hypothesis))
    return message


def voice_activity(started: bool, at_ms: float) -> ServerMessage:
    """Say, for who can read it, that the user has begun or ceased to speak."""
    message = _ServerMessage()
    message.server_content.MergeFromString(voice_activity_fields(started, at_ms))
    message.server_content.SetInParent()
    return message


def spoken(pcm: bytes, text: str) -> ServerMessage:
    """Send a piece of the answer, and where `text` is given the transcription of what begins with it."""
    message = _ServerMessage()
    part = message.server_content.model_turn.parts.add()
    message.server_content.model_turn.role = "model"
    part.inline_data.mime_type = _OUTPUT_MIME_TYPE
    part.inline_data.data = pcm
    if text:
        message.server_content.output_transcription.text = text
    return message


def generation_complete() -> ServerMessage:
    """Say that the whole answer is made."""
    message = _ServerMessage()
    message.server_content.generation_complete = True
    return message


def interrupted() -> ServerMessage:
    """Say that the user has spoken over the answer."""
    message = _ServerMessage()
    message.server_content.interrupted = True
    return message


def waiting_for_input() -> ServerMessage:
    """Say that there was nothing to answer."""
    message = _ServerMessage()
    message.server_content.waiting_for_input = True
    return message


def turn_complete(usage: Usage) -> ServerMessage:
    """End the turn, with the tokens used on this connection so far."""
    message = _ServerMessage()
    message.server_content.turn_complete = True
    counts = message.usage_metadata
    counts.prompt_token_count = usage.text_in + usage.audio_in
    counts.response_token_count = usage.text_out + usage.audio_out
    counts.total_token_count = counts.prompt_token_count + counts.response_token_count
    for details, text, audio in (
        (counts.prompt_tokens_details, usage.text_in, usage.audio_in),
        (counts.response_tokens_details, usage.text_out, usage.audio_out),
    ):
        details.add(modality=_TEXT_MODALITY_COUNT, token_count=text)
        details.add(modality=_AUDIO_MODALITY_COUNT, token_count=audio)
    return message


def tool_call(call_id: str, name: str, args: dict[str, Any]) -> ServerMessage:
    """Call a function of the client's."""
    message = _ServerMessage()
    call = message.tool_call.function_calls.add(id=call_id, name=name)
    call.args.SetInParent()
    call.args.update(args)
    return message


def tool_call_cancellation(call_id: str) -> ServerMessage:
    """Take back a call that has not been answered."""
    message = _ServerMessage()
    message.tool_call_cancellation.ids.append(call_id)
    return message


def go_away(time_left_s: float) -> ServerMessage:
    """Announce the end of the connection."""
    message = _ServerMessage()
    message.go_away.time_left.FromMilliseconds(round(time_left_s * 1000))
    return message


def session_resumption_update(handle: str) -> ServerMessage:
    """Send a new handle; "" while the conversation cannot be resumed."""
    message = _ServerMessage()
    message.session_resumption_update.new_handle = handle
    message.session_resumption_update.resumable = bool(handle)
    if not handle:
        message.session_resumption_update.SetInParent()
    return message


def is_answer(message: ServerMessage) -> bool:
    """Whether a message is part of an answer, which an interruption makes stale."""
    content = message.server_content
    return bool(content.HasField("model_turn") or content.generation_complete)
