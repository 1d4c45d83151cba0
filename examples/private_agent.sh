#!/bin/sh
# A private voice agent: the embedded engine hears and speaks, a language model on this machine thinks, and nothing
# leaves it. Needs any server of the OpenAI-compatible chat API; with Ollama, for example:
#
#     ollama pull llama3.2
#     sh examples/private_agent.sh
#
# BRAIN is the API's URL, BRAIN_MODEL its model (empty: the first that it lists), ANTIPHON_BRAIN_KEY its key if it
# wants one. Arguments go to `antiphon serve`: `sh examples/private_agent.sh --port 9000`. When the language model
# fails, the engine's built-in answers take its place.
set -eu

exec antiphon serve \
  --upstream local \
  --engine-brain "${BRAIN:-http://127.0.0.1:11434/v1}" \
  --engine-brain-model "${BRAIN_MODEL:-}" \
  --instruction "${INSTRUCTION:-You are a friendly voice assistant. Answer in one or two short sentences.}" \
  "$@"
