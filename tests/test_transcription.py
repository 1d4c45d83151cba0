"""The private fields beside a transcription's text."""

from google.ai.generativelanguage_v1beta.types import generative_service
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.transcription import CONFIDENCE_FIELD, FINAL_FIELD, WHOLE_FIELD, Hypothesis, decode, encode

Transcription = generative_service.BidiGenerateContentTranscription.pb()
ServerMessage = generative_service.BidiGenerateContentServerMessage.pb()

hypotheses = st.builds(
    Hypothesis,
    whole=st.none() | st.text(max_size=300),
    confidence=st.floats(0.0, 1.0, width=32),
    final=st.booleans(),
)


@settings(deadline=None)
@given(hypotheses, st.text(max_size=50))
def test_reads_back_what_was_written_after_a_journey_inside_a_server_message(
    hypothesis: Hypothesis, text: str
) -> None:
    message = ServerMessage()
    message.server_content.input_transcription.text = text
    message.server_content.input_transcription.MergeFromString(encode(hypothesis))

    arrived = ServerMessage.FromString(message.SerializeToString()).server_content.input_transcription

    assert arrived.text == text
    assert decode(arrived) == hypothesis


def test_the_numbers_are_the_ones_agreed_on() -> None:
    assert (CONFIDENCE_FIELD, FINAL_FIELD, WHOLE_FIELD) == (1000, 1001, 1002)
    assert encode(Hypothesis("go", 1.0, final=True)) == bytes.fromhex("c53e0000803f c83e01 d23e02676f")


def test_a_transcription_of_gemini_has_none() -> None:
    assert decode(Transcription(text="hello")) is None


def test_unknown_fields_of_others_are_skipped() -> None:
    others = bytes.fromhex("c03e05 c83d01")  # field 1000 as a varint, field 985
    message = Transcription.FromString(others + encode(Hypothesis("go", 0.5, final=False)))
    assert decode(message) == Hypothesis("go", 0.5, final=False)


def test_senseless_values_count_as_absent() -> None:
    too_sure = Transcription.FromString(encode(Hypothesis("go", 2.0, final=False)))
    no_number = Transcription.FromString(encode(Hypothesis("go", float("nan"), final=False)))
    no_text = Transcription.FromString(bytes.fromhex("d23e01ff"))
    assert decode(too_sure) is None
    assert decode(no_number) is None
    assert decode(no_text) is None
