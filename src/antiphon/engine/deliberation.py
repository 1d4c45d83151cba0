"""One turn that the brain answers: what it is asked, and the calls it makes, one after the other."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Any, Final

from antiphon.engine import chat, wire
from antiphon.engine.chat import Question, Wanted
from antiphon.engine.memory import Memory
from antiphon.engine.phrases import Call, spoken_name
from antiphon.engine.responder import Answer, confirm, first_line, respond

MAX_QUESTIONS: Final = 5
"""Of one turn: who calls functions again and again must come to an end."""
MAX_MISTAKES: Final = 1
"""Calls that cannot be made are told to the brain so often."""

NO_ANSWER: Final = {"error": "There was no answer in time."}
_APOLOGY: Final = Answer(("Sorry, I lost my thread.",))


class Deliberation:
    """`text` is the user's turn, `memory` what came before it, `at` local time."""

    def __init__(self, setup: wire.Setup, memory: Memory, text: str, at: datetime) -> None:
        self._setup = setup
        self._memory = memory
        self._line = first_line(text)
        self._at = at
        self._functions = {function.name: function for function in setup.grammar.functions}
        self._messages = list(chat.opening(setup.instruction, memory, text, at))
        self._wanted: deque[Wanted] = deque()
        self._said: list[str] = []
        self._done: tuple[Call, dict[str, Any]] | None = None
        self._questions = 1
        self._mistakes = 0

    def question(self) -> Question:
        """Return what the brain is to be asked now."""
        return Question(tuple(self._messages), self._setup.tools)

    def thought(self, sentence: str) -> None:
        """Note a sentence of the answer."""
        self._said.append(sentence)

    def wants(self, calls: tuple[Wanted, ...]) -> None:
        """Note that the answer ends with calls."""
        self._messages.append(chat.asked_for(" ".join(self._said), calls))
        self._said.clear()
        self._wanted.extend(calls)

    def next(self) -> Call | Question | None:
        """Return the call that is to be made, or what to ask when all were; None where it leads nowhere."""
        while self._wanted:
            wanted = self._wanted[0]
            function = self._functions.get(wanted.name)
            args = chat.arguments(wanted.arguments)
            if function is not None and args is not None:
                return Call(wanted.name, args, spoken_name(function))
            self._mistakes += 1
            if self._mistakes > MAX_MISTAKES:
                return None
            wrong = "The arguments are no JSON object." if function else "There is no such function."
            self._answer({"error": wrong})
        self._questions += 1
        return self.question() if self._questions <= MAX_QUESTIONS else None

    def result(self, call: Call, response: dict[str, Any]) -> None:
        """Take the result of the call that `next` returned."""
        self._done = (call, response)
        self._answer(response)

    def instead(self) -> Answer:
        """Return what to say when the brain has failed."""
        if self._said:
            return _APOLOGY
        if self._done:
            return confirm(*self._done, self._memory, self._setup.language)
        reply = respond(self._line, self._setup.grammar, self._memory, self._setup.language, self._at)
        assert isinstance(reply, Answer)  # a command would not have come here
        return reply

    def _answer(self, response: dict[str, Any]) -> None:
        self._messages.append(chat.result_of(self._wanted.popleft(), response))
