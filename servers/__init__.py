"""Models behind an HTTP API that speaks the OpenAI protocol: OpenAI itself, llama.cpp, Ollama, vLLM and many
more.

- client.py      the one home of the `openai` package: keys, timeouts, retries, errors in one line
- budget.py      what a run may spend, and what it has spent
- chat.py        messages in, one checked JSON object out
- structured.py  finding the JSON object in whatever a model wrote
"""
