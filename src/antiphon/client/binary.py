"""Binary answers, told as the audio_response messages that they are without base64."""

from __future__ import annotations

from email.message import Message as MimeHeader

from antiphon import frames
from antiphon.extension import ResponseStarted, ServerMessage, TranscriptUpdate
from antiphon.messages import AudioResponse


class Answers:
    """What the messages so far say of the binary frames that come next."""

    def __init__(self) -> None:
        self._format = self._language = ""
        self._said = self._text = ""

    def note(self, message: ServerMessage) -> None:
        """Take a message in its turn."""
        match message:
            case ResponseStarted(format=format_, language=language):
                self._format, self._language = format_, language
                self._said = self._text = ""
            case TranscriptUpdate(role="model", text=text):
                # A final one may be cut to what was heard; no frame follows that.
                if text.startswith(self._said):
                    self._text += text[len(self._said) :]
                self._said = text
            case _:
                pass

    def unpack(self, data: bytes) -> AudioResponse:
        """Return the message in a frame. Its `duration` is counted for PCM, and 0 for other formats.

        Raises:
            GatewayError: it is not one of the protocol.
        """
        frame = frames.unpack(data, frames.AUDIO_RESPONSE)
        text, self._text = self._text, ""
        return AudioResponse(
            timestamp=frame.timestamp_ms,
            data=frame.audio,
            format=self._format,
            duration=_duration_ms(frame.audio, self._format),
            text=text,
            language=self._language,
        )


def pcm_rate(format_: str) -> int | None:
    """Return the rate in Hz that a MIME type of mono PCM16 names; None for any other type."""
    header = MimeHeader()
    header["Content-Type"] = format_
    rate = str(header.get_param("rate"))
    return int(rate) if header.get_content_type() == "audio/pcm" and rate.isdecimal() else None


def _duration_ms(audio: bytes, format_: str) -> float:
    rate_hz = pcm_rate(format_)
    return round(len(audio) / 2 / rate_hz * 1000, 3) if rate_hz else 0.0
